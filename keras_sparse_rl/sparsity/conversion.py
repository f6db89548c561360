"""Layer by layer, from Keras to Powerprop and back."""

import contextlib
import functools
import inspect
import tempfile

import keras

# Arguments of Keras layers that only serve LoRA and quantization.
_KERAS_ONLY = frozenset(
    {
        "lora_rank",
        "lora_alpha",
        "quantization_config",
        "gptq_unpacked_column_size",
    }
)


# What makes a model more than its graph of layers.
_OVERRIDDEN = (
    "call",
    "compute_loss",
    "compute_metrics",
    "train_step",
    "test_step",
    "predict_step",
)


@functools.cache
def powerprop_classes():
    """Dict of Keras layer class to the Powerprop class that replaces it."""
    # Imported late: the layers themselves need this package.
    from keras_sparse_rl import layers

    return {
        keras.layers.Dense: layers.PowerpropDense,
        keras.layers.Conv1D: layers.PowerpropConv1D,
        keras.layers.Conv2D: layers.PowerpropConv2D,
        keras.layers.DepthwiseConv2D: layers.PowerpropDepthwiseConv2D,
        keras.layers.EinsumDense: layers.PowerpropEinsumDense,
        keras.layers.Embedding: layers.PowerpropEmbedding,
        keras.layers.LSTM: layers.PowerpropLSTM,
        keras.layers.GRU: layers.PowerpropGRU,
        keras.layers.SimpleRNN: layers.PowerpropSimpleRNN,
        keras.layers.RNN: layers.PowerpropRNN,
        keras.layers.MultiHeadAttention: layers.PowerpropMultiHeadAttention,
    }


@functools.cache
def keras_classes():
    """Dict of a class of ours to the Keras class that it stands for."""
    from keras_sparse_rl import layers

    classes = {ours: theirs for theirs, ours in powerprop_classes().items()}
    return {**classes, layers.SparseDense: keras.layers.Dense}


@functools.cache
def composite_classes():
    """Tuple of layer classes with kernels inside, sparse-ready by `alpha`."""
    from keras_sparse_rl import layers

    return (
        layers.GTrXL,
        layers.RelativeMultiHeadAttention,
        layers.Gate,
        layers.EpisodicLSTM,
        layers.ResettableRNN,
        layers.PPRCore,
    )


def has_known_cells(layer):
    """Whether the cells of a recurrent layer, if any, are Keras' own."""
    from keras_sparse_rl.layers.powerprop_kernels import keras_cells

    cells = [getattr(layer, name, None) for name in ("cell", "slow_cell")]
    return all(keras_cells(x) for x in cells if hasattr(x, "state_size"))


def inner_layers(layer):
    """The layers that a wrapper applies; none for any other layer."""
    from keras_sparse_rl import layers

    if type(layer) is keras.layers.Bidirectional:
        return [layer.forward_layer, layer.backward_layer]
    if type(layer) in (keras.layers.TimeDistributed, layers.OverTime):
        return [layer.layer]
    return []


def leaf_layers(layer):
    """The layers of a model, through the models and wrappers inside it.

    Args:
        layer: Keras model or layer.

    Yields:
        Keras layers, in order; `layer` itself if there are none inside.
    """
    inner = layer.layers if is_open(layer) else inner_layers(layer)
    if not inner:
        yield layer
    for part in inner:
        yield from leaf_layers(part)


def copy_weights(layer, new):
    """Copies effective weights; what masks hide becomes 0 in plain layers.

    Args:
        layer: Keras layer, built.
        new: layer with the same weights but for masks, which may stand on
            either side.
    """
    old, kernel = (getattr(x, "sparse_kernel", None) for x in (layer, new))
    moves_masks = any(hasattr(k, "copy_from") for k in (old, kernel))
    if kernel is not None and moves_masks:
        if hasattr(kernel, "copy_from"):
            kernel.copy_from(layer)
        else:
            kernel.theta.assign(old.dense_theta())
            kernel.assign_masks(old.forward_mask(), old.backward_mask())
        if new.bias is not None:
            new.bias.assign(layer.bias)
        return
    if type(layer) is type(new) and len(layer.weights) == len(new.weights):
        new.set_weights(layer.get_weights())
        _copy_other_state(layer, new)
        return
    for old, variable in zip(_without_masks(layer), _without_masks(new)):
        kernel = getattr(old, "sparse_kernel", None)
        value = keras.ops.convert_to_numpy(kernel.value() if kernel else old)
        if hasattr(variable, "sparse_kernel"):
            variable.sparse_kernel.assign_weight(value)
        else:
            variable.assign(value)


def _copy_other_state(layer, new):
    """Copies what preprocessing layers learned beside their weights."""
    if hasattr(layer, "adapt"):
        store = {}
        layer.save_own_variables(store)
        new.load_own_variables(store)
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            new.load_assets(folder)


def _without_masks(layer):
    kernels = [getattr(v, "sparse_kernel", None) for v in layer.weights]
    masks = {id(v) for kernel in kernels if kernel for v in kernel.bookkeeping}
    return [v for v in layer.weights if id(v) not in masks]


def convert_layer(layer, target_class, **arguments):
    """A layer of `target_class` with the configuration of `layer`.

    Args:
        layer: Keras layer.
        target_class: class to build.
        **arguments: further constructor arguments.

    Returns:
        A new layer without weights.

    Raises:
        ValueError: if LoRA or quantization is switched on in `layer`.
    """
    config = layer.get_config()
    for name in sorted(_KERAS_ONLY & config.keys()):
        if config.pop(name) is not None:
            raise ValueError(
                f"Layer '{layer.name}' uses {name}, which sparse layers do "
                "not have. Merge LoRA weights or drop the quantization first."
            )
    parameters = inspect.signature(target_class.__init__).parameters
    accepted = set(parameters) | {
        "name",
        "trainable",
        "dtype",
        "activity_regularizer",
    }
    if issubclass(type(layer), target_class) and target_class is not type(
        layer
    ):
        del config["alpha"]
    elif not issubclass(target_class, type(layer)):
        config = {k: v for k, v in config.items() if k in accepted}
    slow_cell = config.get("slow_cell")
    if isinstance(slow_cell, dict) and "alpha" in slow_cell["config"]:
        slow_cell["config"]["alpha"] = arguments["alpha"]
    return target_class.from_config({**config, **arguments})


def clone_with(model, convert):
    """Clones a model, asking `convert` for each layer's replacement.

    Args:
        model: Sequential or functional Keras model, built.
        convert: function `layer -> new layer`, or None to keep its kind.

    Returns:
        Tuple of the clone, without weights copied, and the list of pairs
        `(layer, its clone)`.

    Raises:
        TypeError: for a subclassed model, which cannot be taken apart.
        ValueError: for a model without weights.
    """
    check_model(model)
    pairs = []

    def clone_function(layer):
        if is_open(layer):
            return clone_model(layer)
        if inner_layers(layer):
            return clone_wrapper(layer)
        new = convert(layer)
        if new is None:
            new = _copy(layer)
        # A functional model also holds bare operations, without weights.
        if isinstance(layer, keras.layers.Layer):
            pairs.append((layer, new))
        return new

    def clone_model(model):
        with _uncompiled(model):
            clone = keras.models.clone_model(
                model, clone_function=clone_function, recursive=True
            )
        _check_same_methods(model, clone)
        if not clone.built:
            clone.build(model.input_shape)
        return clone

    def clone_wrapper(layer):
        config = layer.get_config()
        for name in ("layer", "backward_layer"):
            config.pop(name, None)
        inner = inner_layers(layer)
        if len(inner) == 1:
            return type(layer)(clone_function(inner[0]), **config)
        forward, backward = (convert(x) or _copy(x) for x in inner)
        new = type(layer)(forward, backward_layer=backward, **config)
        # Keras has made the layer that runs forward anew.
        pairs.extend(zip(inner, inner_layers(new)))
        return new

    return clone_model(model), pairs


@contextlib.contextmanager
def _uncompiled(model):
    """Keras would compile the clone, from a file's view of the arguments."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def _check_same_methods(model, clone):
    """Refuses what Keras clones as an ordinary model, losing its methods."""
    own = [
        name
        for name in _OVERRIDDEN
        if getattr(type(model), name) is not getattr(type(clone), name)
    ]
    if own:
        raise TypeError(
            f"Model '{model.name}' is of class {type(model).__name__}, whose "
            f"{own} the result would lose: Keras cannot make another from its "
            "configuration. Use keras_sparse_rl.layers.PowerpropDense and its "
            "kin in its constructor instead."
        )


def _copy(layer):
    if isinstance(layer, keras.layers.Lambda):
        # Its code is already in this process: nothing is loaded.
        return layer.__class__.from_config(layer.get_config(), safe_mode=False)
    return layer.__class__.from_config(layer.get_config())


def check_model(model):
    """Refuses what cannot be taken apart layer by layer.

    Args:
        model: whatever the user gave.

    Raises:
        TypeError: for a subclassed model, or no model at all.
        ValueError: for a model without weights.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: {model!r}.")
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' has no weights yet. Call it on data, or "
            "start it with keras.Input(...)."
        )
    _refuse_subclassed(model)


def is_open(layer):
    """Whether a layer is a model that can be taken apart."""
    return isinstance(layer, (keras.Sequential, _functional_class()))


def _refuse_subclassed(model):
    if not is_open(model):
        raise TypeError(
            f"Model '{model.name}' is a subclass of keras.Model "
            f"({type(model).__name__}), whose layers cannot be exchanged from "
            "outside. Use keras_sparse_rl.layers.PowerpropDense and its kin "
            "in its constructor instead."
        )
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _refuse_subclassed(layer)


@functools.cache
def _functional_class():
    """The class of functional models, which Keras does not export."""
    tensor = keras.Input((1,), name="probe")
    # Some versions of Keras refuse an input that nothing reads.
    return type(keras.Model(tensor, keras.layers.Identity()(tensor)))
