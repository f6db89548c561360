import functools
import inspect

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.kernels.checkpoints import follow_lists
from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.kernels.scope import is_read_inside
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import adopt
from keras_sparse_rl.layers.powerprop_kernels import matrices_in

# Arguments of Keras layers that only serve LoRA and quantization.
_KERAS_ONLY = (
    "lora_rank",
    "lora_alpha",
    "quantization_config",
    "gptq_unpacked_column_size",
)


class PowerpropLayer(PowerpropKernels):
    """A Keras layer whose matrices are `theta * |theta|**(alpha - 1)`.

    Mixed into a layer of Keras, whose constructor it keeps, with `alpha` last.
    Large weights learn faster and small ones stay small, so the trained layer
    keeps its accuracy when most of its weights are removed. See
    "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1. With `alpha=1` it computes
    what the Keras layer does, bit for bit; every `alpha` starts from the same
    effective weights. Train it with `optimizers.Powerprop(...)`, unless with
    SGD.

    Args:
        *args: arguments of the Keras layer; what they say of a matrix acts on
            the effective one.
        alpha: float, the exponent, at least 1. Larger is sparser, and needs a
            smaller learning rate.
        **kwargs: arguments of the Keras layer.

    Attributes:
        sparse_kernels: list of `Kernel`, each with `theta`, `mask` and
            `value()`, the effective matrix.
        theta, mask: variables of a layer that has one matrix.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if an
            argument is one of LoRA or quantization.

    Example:

    >>> from keras_sparse_rl.layers import PowerpropDense, PowerpropLayer
    >>> issubclass(PowerpropDense, PowerpropLayer)
    True
    """

    keras_class = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if PowerpropLayer not in cls.__bases__:
            return  # a subclass of a layer that is wired already
        cls.keras_class = cls.__bases__[1]
        for name, make in (
            ("__init__", _constructor),
            ("build", _build),
            ("call", with_effective_kernels),
        ):
            if name not in vars(cls):
                setattr(cls, name, make(getattr(cls.keras_class, name)))

    @property
    def sparse_kernel(self):
        """The `Kernel` of a layer that has one matrix."""
        if not self.built:
            raise AttributeError(
                f"Layer '{self.name}' has no weights yet. Call it on data, or "
                "call layer.build(input_shape), before reading `theta`, "
                "`kernel` or `mask`."
            )
        if len(self._powerprop_kernels) != 1:
            raise AttributeError(
                f"Layer '{self.name}' has {len(self._powerprop_kernels)} "
                "kernels: read layer.sparse_kernels."
            )
        return self._powerprop_kernels[0]

    @property
    def theta(self):
        """The trained variable; the kernel is computed from it."""
        return self.sparse_kernel.theta

    @property
    def mask(self):
        """The `uint8` variable: bit 1 = weight is used, bit 2 = trained."""
        return self.sparse_kernel.mask

    def enable_lora(self, *args, **kwargs):
        """Refused: LoRA adds to a plain kernel."""
        _refuse(self, "enable_lora")

    def quantize(self, *args, **kwargs):
        """Refused: quantization replaces a plain kernel."""
        _refuse(self, "quantize")


class EffectiveAttribute:
    """An attribute of a layer that holds a variable and reads as its value.

    Inside the layer's call it is the variable, as Keras left it, which then
    reads as the effective kernel too.

    Args:
        name: str, the attribute of the Keras layer.
    """

    def __init__(self, name):
        self.name = name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        variable = vars(layer).get(self.name)
        if variable is None and not layer.built:
            raise AttributeError(
                f"Layer '{layer.name}' has no weights yet. Call it on data, "
                f"or call layer.build(input_shape), before reading "
                f"`{self.name}`."
            )
        if variable is None:  # Keras has a property of that name
            inherited = getattr(layer.keras_class, self.name)
            variable = inherited.__get__(layer)
        kernel = kernel_of(variable)
        if kernel is None or is_read_inside(kernel):
            return variable
        # In another layer's call, the precision of that call.
        return kernel.value(variable.dtype)

    def __set__(self, layer, value):
        vars(layer)[self.name] = value


def with_effective_kernels(call):
    """The `call` of a layer, reading effective kernels.

    Args:
        call: function, a `call` of a Keras layer.

    Returns:
        Function of the same signature. Where `training` is not in it, Keras
        passes it too.
    """
    signature = inspect.signature(call)
    takes_training = "training" in signature.parameters

    @functools.wraps(call)
    def effective_call(self, *args, **kwargs):
        training = kwargs.get("training")
        if not takes_training:
            kwargs.pop("training", None)
        with self.effective_kernels(training):
            return call(self, *args, **kwargs)

    effective_call.__signature__ = signature
    if not takes_training:
        effective_call.__signature__ = _with_parameter(
            signature, "training", None
        )
    return effective_call


def _constructor(keras_init):
    signature = inspect.signature(keras_init)
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.name not in _KERAS_ONLY
    ]
    signature = signature.replace(parameters=parameters)

    def construct(self, *args, alpha=2.0, **kwargs):
        # First: Keras' Embedding may build in its constructor.
        self.alpha = check_alpha(alpha)
        for name in _KERAS_ONLY:
            if kwargs.pop(name, None) is not None:
                raise ValueError(
                    f"Sparse layers have no `{name}`. Received: "
                    f"{name} of {type(self).__name__}. Merge LoRA weights, or "
                    "drop the quantization, first."
                )
        keras_init(self, *args, **kwargs)

    construct.__name__ = "__init__"
    construct.__signature__ = _with_parameter(signature, "alpha", 2.0)
    return construct


def _build(keras_build):
    @functools.wraps(keras_build)
    def build(self, *args, **kwargs):
        keras_build(self, *args, **kwargs)
        if not self._powerprop_kernels:
            inside = layers_inside(self)
            adopt(self, matrices_in(inside), self.alpha)
            for part in inside[1:]:
                follow_lists(part)

    return build


def _with_parameter(signature, name, default):
    """A signature with one more keyword, before `**kwargs`."""
    added = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default
    )
    parameters = list(signature.parameters.values())
    has_kwargs = parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    place = len(parameters) - 1 if has_kwargs else len(parameters)
    return signature.replace(
        parameters=[*parameters[:place], added, *parameters[place:]]
    )


def _refuse(layer, method):
    raise ValueError(
        f"`{method}` needs plain kernels, and layer '{layer.name}' is sparse. "
        "Bake the zeros in first: keras_sparse_rl.sparsity.densify(model)."
    )
