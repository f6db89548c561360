"""The optimizers that train a model, and what callbacks ask of them."""

import warnings
import weakref

import keras

from keras_sparse_rl.optimizers.kernel_slots import kernel_slots
from keras_sparse_rl.optimizers.kernel_slots import knows_kernels
from keras_sparse_rl.optimizers.kernel_slots import optimizers_inside
from keras_sparse_rl.optimizers.kernel_slots import steps_taken
from keras_sparse_rl.optimizers.kernel_slots import without_wrapper
from keras_sparse_rl.optimizers.powerprop import powerprop_advice

# For each optimizer and model: the kernels that were trained when a callback
# first saw them together.
_seen = weakref.WeakKeyDictionary()


class ModelOptimizers:
    """All optimizers of a model: of `compile`, and those that it holds.

    A model with a train step of its own may have several, one for each network
    inside. They are found where Keras users keep them: as attributes of the
    model or of a layer inside, alone or in a list, tuple or dict. Those of
    mixed precision are meant without their wrapper, which in Keras 3.8 does
    not count steps.

    Args:
        model: Keras model.

    Attributes:
        named: dict of the attribute's name to Keras optimizer.

    Raises:
        ValueError: if the model has no optimizer.
    """

    def __init__(self, model):
        self._model = model
        self._compiled = getattr(model, "optimizer", None)
        self.named = optimizers_inside(model)
        if not self.named:
            raise ValueError(
                f"Callbacks for sparse training count the steps of "
                f"model.optimizer, and model '{model.name}' has none. Compile "
                "the model, or set model.optimizer in a loop of your own."
            )
        self.powerprop = [o for o in self.named.values() if knows_kernels(o)]

    def has_changed(self):
        """Whether the model has been compiled with another one since."""
        return getattr(self._model, "optimizer", None) is not self._compiled

    def steps(self):
        """The steps that were made, an int: of the one that made most."""
        return max(map(steps_taken, self.powerprop or self.named.values()))

    def counter(self):
        """The optimizer that counts the steps, or None where there are two."""
        return self.powerprop[0] if len(self.powerprop) == 1 else None

    def slots(self, kernel):
        """The variables that optimizers keep for a kernel, a dict."""
        return kernel_slots(self.powerprop, kernel)

    def set_penalty(self, kernel, forward, backward):
        """Sets Top-KAST's decay of a kernel where it is trained."""
        for optimizer in self.powerprop:
            if not optimizer.built or optimizer.trains(kernel):
                optimizer.set_penalty(kernel, forward, backward)

    def require_powerprop(self, owner, reason):
        """Raises unless optimizers keep their hands off resting weights.

        Args:
            owner: object that asks; its class is named.
            reason: str, what it needs an optimizer to do.

        Raises:
            ValueError: if no optimizer knows kernels.
        """
        if not self.powerprop:
            optimizer = next(iter(self.named.values()))
            raise ValueError(
                f"{type(owner).__name__} needs an optimizer that {reason}, "
                f"and {type(optimizer).__name__} does not. "
                f"{powerprop_advice(optimizer)}"
            )
        self._warn_of_plain_ones(owner)
        only = self.powerprop[0]
        # In a loop of one's own it may train other models too.
        is_fit = getattr(self._model, "compiled", False)
        if is_fit and len(self.named) == 1 and not only.built:
            only.build(self._model.trainable_variables)

    def check_trained(self, kernels):
        """Raises if a kernel has become trainable since `compile`.

        Args:
            kernels: list of `Kernel` of trainable layers.

        Raises:
            ValueError: if no optimizer trains one.
        """
        kernels = list(kernels)
        ids = {id(kernel) for kernel in kernels}
        for optimizer in self.named.values():
            # Of optimizers that know no kernels: what was trained before.
            models = _seen.setdefault(optimizer, weakref.WeakKeyDictionary())
            ids &= models.setdefault(self._model, ids)
        # A plain one beside them may train any: `require_powerprop` warns.
        all_know = len(self.powerprop) == len(self.named)
        if all_know and all(o.built for o in self.powerprop):
            ids = {
                id(kernel)
                for kernel in kernels
                if any(o.trains(kernel) for o in self.powerprop)
            }
        for kernel in kernels:
            if id(kernel) not in ids:
                raise ValueError(
                    f"The optimizer of model '{self._model.name}' was built "
                    f"without layer '{kernel.layer.name}' (frozen then, or "
                    "missing from the variables given to build). Compile the "
                    "model again, with a new optimizer: model.compile("
                    "Powerprop(...), ...)."
                )

    def plain(self):
        """Names and classes of optimizers that know no kernels, a list."""
        step = getattr(type(self._model), "train_step", None)
        own_step = step is not keras.Model.train_step
        return [
            f"{name} ({type(optimizer).__name__})"
            for name, optimizer in self.named.items()
            if not knows_kernels(optimizer)
            # Beside others `compile` fills in one that nobody asked for.
            and not (own_step and optimizer is without_wrapper(self._compiled))
        ]

    def _warn_of_plain_ones(self, owner):
        plain = self.plain()
        if plain:
            warnings.warn(
                f"Model '{self._model.name}' holds optimizers that know "
                f"nothing of masks: {', '.join(plain)}. {type(owner).__name__} "
                "needs Powerprop(...) for all that train sparse layers.",
                stacklevel=2,
            )
