import gzip
import pathlib
import tempfile

import keras
import tensorflow as tf

from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.sparsity.densify import densify
from keras_sparse_rl.sparsity.sparsity_summary import leaf_layers

# As TensorFlow's converter has them (`dense_to_sparse_pass.cc`): the zeros
# from which weights are stored sparse, and the share of them that must lie in
# empty blocks for the sparse kernels.
_STORED_SPARSE = 0.3
_IN_BLOCKS = 0.9
_BLOCK = 4


def export_litert(model, path, print_fn=print):
    """Writes a model for LiteRT, its weights sparse, and says what will run so.

    Sparse layers become plain ones (`densify`), the model goes through
    Keras' `export` to TensorFlow's converter, which stores weights of which
    at least 30 % are 0 sparse. LiteRT computes with them sparse where they lie
    in blocks of four inputs of one output (`block_size=4` in `TopKAST`,
    `MagnitudePruning`, `prune` and the others); elsewhere it unpacks them when
    it loads the file, and the layer is small but not faster. Unstructured
    weights count as blocks from about 97 % zeros on. Run the file with
    `load_litert`.

    Args:
        model: Sequential or functional Keras model, built, with sparse layers
            or plain.
        path: path of the file, ending in `.tflite`. Folders on the way are
            made.
        print_fn: function that takes the report as a string; None prints
            nothing.

    Returns:
        Dict with `"path"`; `"size"` and `"gzip_size"`, bytes of the file as it
        is and packed; and `"layers"`, a list of dicts for the layers with a
        kernel: `name`, `shape`, `density` and `block_density` (shares of
        weights, and of blocks of four, that are not all 0) and `runs`:
        `"sparse"`, `"unpacked"` (stored sparse, computed dense) or `"dense"`.
        `runs` is foretold by the converter's rule; a layer that is neither
        dense nor a convolution is not listed.

    Raises:
        TypeError: for a subclassed model with sparse layers.
        ValueError: if `path` does not end in `.tflite` or the model has no
            weights yet.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import export_litert, prune
    >>> model = keras.Sequential([keras.Input((64,)), PowerpropDense(32)])
    >>> _ = prune(model, density=0.1, block_size=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/model.tflite"
    ...     report = export_litert(model, path, print_fn=None)
    >>> report["layers"][0]["runs"], report["size"] < 64 * 32 * 4
    ('sparse', True)
    """

    path = pathlib.Path(path)
    if path.suffix != ".tflite":
        raise ValueError(
            "`path` must end in '.tflite', the name LiteRT's files go by. "
            f"Received: path={str(path)!r}."
        )
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "`model` must be a Keras model with weights: start it with "
            f"keras.Input(...), or call it first. Received: {model!r}."
        )
    plain = model
    if sparse_kernels(model):
        plain = keras.models.clone_model(model)
        plain.set_weights(model.get_weights())
        densify(plain)
    with tempfile.TemporaryDirectory() as folder:
        plain.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        content = converter.convert()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    rows = [_row(layer) for layer in leaf_layers(plain) if _has_kernel(layer)]
    report = {
        "path": str(path),
        "size": len(content),
        "gzip_size": len(gzip.compress(content)),
        "layers": rows,
    }
    if print_fn is not None:
        print_fn(_text(report))
    return report


def _has_kernel(layer):
    kinds = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
    return isinstance(layer, kinds)


def _row(layer):
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    used = kernel != 0
    density = float(used.mean())
    inputs = kernel.shape[-2]
    block_density = 1.0
    if inputs % _BLOCK == 0:
        blocks = used.reshape(*kernel.shape[:-2], -1, _BLOCK, kernel.shape[-1])
        block_density = float(blocks.any(-2).mean())
    is_dense_layer = isinstance(layer, keras.layers.Dense)
    return {
        "name": layer.name,
        "shape": kernel.shape,
        "density": density,
        "block_density": block_density,
        "runs": _runs(density, block_density, is_dense_layer),
    }


def _runs(density, block_density, is_dense_layer):
    """How LiteRT computes with a kernel, by the converter's rule."""
    if 1 - density < _STORED_SPARSE:
        return "dense"
    if is_dense_layer and 1 - block_density > _IN_BLOCKS * (1 - density):
        return "sparse"
    return "unpacked"


def _text(report):
    lines = [
        f"{report['path']}: {report['size']:,} bytes, "
        f"{report['gzip_size']:,} packed with gzip"
    ]
    for row in report["layers"]:
        shape = "x".join(map(str, row["shape"]))
        lines.append(
            f"  {row['name']} {shape}: {row['density']:.2%} of the weights, "
            f"{row['block_density']:.2%} of the blocks; {row['runs']}"
        )
    return "\n".join(lines)
