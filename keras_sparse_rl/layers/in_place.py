"""Layers that are built already, made sparse where they are, and back."""

import functools
import types

import keras

from keras_sparse_rl import layers
from keras_sparse_rl.kernels.checkpoints import follow_lists
from keras_sparse_rl.kernels.keras_members import forget
from keras_sparse_rl.kernels.keras_members import renew_call_signature
from keras_sparse_rl.kernels.keras_members import sublayers
from keras_sparse_rl.kernels.keras_members import unlocked
from keras_sparse_rl.kernels.matrices import is_cell
from keras_sparse_rl.kernels.matrices import layer_at
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.kernels.matrices import positions_inside
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import adopt
from keras_sparse_rl.layers.powerprop_kernels import matrices_in
from keras_sparse_rl.layers.powerprop_kernels import own_kernels
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer
from keras_sparse_rl.layers.powerprop_layer import with_effective_kernels
from keras_sparse_rl.layers.stored_in_place import to_stored

# The layer of Keras to the sparse-ready one that stands for it.
TWINS = {
    twin.keras_class: twin
    for twin in vars(layers).values()
    if isinstance(twin, type)
    and issubclass(twin, PowerpropLayer)
    and twin not in (PowerpropLayer, layers.SparseDense)
}


class InPlace(PowerpropKernels):
    """A layer of the user's own whose matrices are kernels.

    Mixed into the class of a layer, under its name, so that the layer stays
    what it was: an instance of its class, with its methods. Its file holds the
    layer's own configuration and which matrices inside are kernels; loading
    builds the layer and makes them kernels again.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers.in_place import InPlace
    >>> from keras_sparse_rl.sparsity import sparsify
    >>> class Own(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight((input_shape[-1], 3), name="w")
    ...     def call(self, inputs):
    ...         return inputs @ self.w
    >>> layer = Own()
    >>> layer.build((None, 4))
    >>> sparsify(layer, verbose=0)
    >>> isinstance(layer, Own), isinstance(layer, InPlace)
    (True, True)
    """

    plain_class = None

    def get_config(self):
        own = type(self)
        self.__class__ = self.plain_class  # Keras names it in the file
        try:
            config = keras.saving.serialize_keras_object(self)
        finally:
            self.__class__ = own
        config.pop("compile_config", None)  # compiled once all is in place
        return {"layer": config, "sparse": describe(self)}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        if _has_matrices(layer, config["sparse"]):
            restore(layer, config["sparse"])
        else:
            _restore_after_call(layer, config["sparse"])
        return layer

    def __reduce__(self):
        # The class is made at run time, so pickle cannot look it up by name.
        load, arguments = super().__reduce__()
        return getattr(self.plain_class, load.__name__), arguments

    def quantize(self, *args, **kwargs):
        """Refused: quantization replaces plain kernels."""
        PowerpropLayer.quantize(self)


def make_sparse(layer, matrices, alpha, kernels_alpha=None):
    """Makes matrices that a layer's call reads kernels of that layer.

    Args:
        layer: Keras layer, built.
        matrices: list of pairs `(variable, the layer that holds it)`; none
            for a layer that only holds layers that have kernels.
        alpha: float, the exponent that the layer is of.
        kernels_alpha: float, that of its kernels, by default the same. With
            1 no weight is touched; `change_alpha` of the kernels does that.
    """
    kind = type(layer)
    if not isinstance(layer, PowerpropKernels):
        layer.__class__ = TWINS.get(kind) or in_place_class(kind)
        renew_call_signature(layer)
        # An attribute of the object itself, which Keras put there.
        layer.plain_quantize = layer.quantize
        layer.quantize = types.MethodType(type(layer).quantize, layer)
    if not isinstance(layer, InPlace):
        layer.alpha = alpha
    with unlocked(layer):
        adopt(layer, matrices, kernels_alpha or alpha)


def make_plain(layer, kept=None):
    """Gives a layer its own class back; `theta` is its matrix then.

    Args:
        layer: Keras layer that has kernels, or layers inside that have.
        kept: tuple of kernels that stay, and the layer's class with them; by
            default none does.
    """
    for kernel in own_kernels(layer):
        if kernel not in (kept or ()):
            kernel.release()
            forget(layer, kernel.mask_attribute)
    if kept is not None:
        layer._powerprop_kernels = kept
        return
    for name in ("_powerprop_kernels", "_powerprop_inside"):
        vars(layer).pop(name, None)
    if isinstance(layer, InPlace):
        layer.__class__ = layer.plain_class
    elif isinstance(layer, PowerpropLayer):
        del layer.alpha
        layer.__class__ = layer.keras_class
    else:
        layer.alpha = None  # a memory of this package
        return
    renew_call_signature(layer)
    if "plain_quantize" in vars(layer):
        layer.quantize = vars(layer).pop("plain_quantize")


@functools.cache
def in_place_class(plain):
    """The class of a user's layer whose matrices are kernels.

    Args:
        plain: class of Keras layers.

    Returns:
        A class derived from it, under its name. All of them are registered
        under one name in files, which hold the user's class too.
    """
    members = {
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        "plain_class": plain,
        "__init__": plain.__init__,  # Keras looks at its signature
        "call": with_effective_kernels(plain.call),
    }
    derived = types.new_class(
        plain.__name__, (InPlace, plain), exec_body=lambda n: n.update(members)
    )
    register = keras.saving.register_keras_serializable(
        package="keras_sparse_rl", name="InPlace"
    )
    return register(derived)


def read_layers(layer):
    """The layers whose matrices a layer's call reads, itself among them.

    A loop over time reads those of its cells; what stands for one layer of
    Keras reads all inside.

    Args:
        layer: Keras layer.
    """
    if reads_all_inside(layer):
        return layers_inside(layer)
    if isinstance(layer, PowerpropKernels) and layer.read_layers():
        parts = layer.read_layers()
    else:
        parts = [part for part in sublayers(layer) if is_cell(part)]
    inside = [found for part in parts for found in layers_inside(part)]
    return [layer, *inside]


def reads_all_inside(layer):
    """Whether no layer inside is made sparse by itself."""
    kinds = (PowerpropLayer, keras.layers.RNN)
    return type(layer) in TWINS or isinstance(layer, kinds)


def describe(layer):
    """What is sparse inside a layer, in a form for its file.

    Args:
        layer: Keras layer.

    Returns:
        List of dicts: the path to a layer and what makes it sparse.
    """
    entries = []
    for path, part in positions_inside(layer):
        entry = {"path": list(path)}
        if isinstance(part, layers.SparseDense):
            entries.append({**entry, **part.sparse_arguments()})
        elif isinstance(part, InPlace) or getattr(part, "sparse_kernels", None):
            kernels = part._powerprop_kernels
            thetas = {id(kernel.theta) for kernel in kernels}
            matrices = matrices_in(read_layers(part))
            entry["matrices"] = [
                number
                for number, (variable, _) in enumerate(matrices)
                if id(variable) in thetas
            ]
            entry["alpha"] = kernels[0].alpha if kernels else 1.0
            entries.append(entry)
    return entries


def restore(layer, entries):
    """Makes sparse again what `describe` found sparse.

    Args:
        layer: Keras layer, built.
        entries: list of dicts from `describe`.
    """
    for entry in entries:
        part = layer_at(layer, entry["path"])
        if getattr(part, "_powerprop_kernels", ()):
            continue  # its own configuration says that it is sparse
        if "density" in entry:
            arguments = {k: v for k, v in entry.items() if k != "path"}
            to_stored(part, **arguments)
            continue
        matrices = matrices_in(read_layers(part))
        chosen = [matrices[number] for number in entry["matrices"]]
        make_sparse(part, chosen, entry["alpha"])
    watch_inside(layer)


def watch_inside(root):
    """Tells layers of the user's own which kernels are inside them.

    What they read of those by themselves is then effective too.

    Args:
        root: Keras layer.
    """
    for part in layers_inside(root):
        follow_lists(part)
        if isinstance(part, InPlace):
            kernels = {
                id(kernel): kernel
                for inner in layers_inside(part)[1:]
                for kernel in getattr(inner, "_powerprop_kernels", ())
                if not kernel.is_stored
            }
            part._powerprop_inside = tuple(kernels.values())


def _has_matrices(layer, entries):
    """Whether all that was sparse is there already."""
    inside = dict(positions_inside(layer))
    for entry in entries:
        part = inside.get(tuple(entry["path"]))
        if part is None or not part.built:
            return False
        needed = max(entry.get("matrices", []), default=-1)
        if len(matrices_in(read_layers(part))) <= needed:
            return False
    return True


def _restore_after_call(layer, entries):
    """Waits for the call that builds what is inside, if only symbolically.

    A layer without a `build` of its own says that it is built before.
    """
    call = layer.call

    @functools.wraps(call)
    def call_and_restore(*args, **kwargs):
        outputs = call(*args, **kwargs)
        vars(layer).pop("call", None)
        restore(layer, entries)
        return outputs

    layer.call = call_and_restore


# The name must be known before a file is loaded.
in_place_class(keras.layers.Layer)
