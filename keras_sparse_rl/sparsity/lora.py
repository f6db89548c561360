"""LoRA's two factors, merged into the matrix that they adapt."""

import keras

from keras_sparse_rl.kernels.keras_members import forget
from keras_sparse_rl.kernels.keras_members import unlocked


def has_lora(layer):
    """Whether LoRA is switched on in a layer.

    Args:
        layer: Keras layer.
    """
    return bool(getattr(layer, "lora_enabled", False))


def merge_lora(layer, matrix):
    """Adds the product of LoRA's factors to the matrix and drops them.

    Args:
        layer: Keras layer with LoRA switched on.
        matrix: the variable that LoRA adapts, which is trained again.

    Returns:
        Function without arguments that undoes it.
    """
    is_table = isinstance(layer, keras.layers.Embedding)
    prefix = "lora_embeddings" if is_table else "lora_kernel"
    factors = {
        name: getattr(layer, name) for name in (f"{prefix}_a", f"{prefix}_b")
    }
    before = keras.ops.convert_to_numpy(matrix)
    rank = layer.lora_rank
    scale = (getattr(layer, "lora_alpha", None) or rank) / rank
    a, b = (keras.ops.convert_to_numpy(x) for x in factors.values())
    matrix.assign(before + scale * (a @ b))
    matrix.trainable = layer.trainable
    for name in factors:
        forget(layer, name)
    settings = {"lora_enabled": False, "lora_rank": None, "lora_alpha": None}
    kept = {name: getattr(layer, name, None) for name in settings}
    for name, value in settings.items():
        setattr(layer, name, value)

    def undo():
        with unlocked(layer):
            for name, value in {**factors, **kept}.items():
                setattr(layer, name, value)
        matrix.assign(before)
        matrix.trainable = False

    return undo
