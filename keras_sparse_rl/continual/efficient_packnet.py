import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_share
from keras_sparse_rl.continual.mask_search import check_densities
from keras_sparse_rl.continual.mask_search import sparsest
from keras_sparse_rl.continual.task_callback import TaskCallback
from keras_sparse_rl.sparsity.mask_choice import check_scope
from keras_sparse_rl.sparsity.mask_choice import choose_masks

_DENSITIES = (0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
_BATCH = 256


class EfficientPackNet(TaskCallback):
    """Every task takes the fewest weights that do, old ones among them.

    After training the task's mask is searched on validation data: the largest
    weights of all, old tasks' and new, at the smallest density whose score is
    within the tolerance of the unpruned network's; no training need follow.
    What the mask takes beyond the weights of old tasks is owned from now on,
    the rest is given to the next task ("Powerpropagation", Schwarz et al. 2021,
    https://arxiv.org/abs/2110.00296, section 5; its steps are recalled, not
    read). So a task re-uses old weights or leaves them out, takes as many as
    it needs, and the number of tasks need not be known. Exponents above 1
    make the masks sparser. Use and errors as `TaskCallback`.

    Args:
        task: str, the name of the task.
        validation_data: `(x, y)`, or a `tf.data.Dataset`, as `evaluate` takes
            it: data of this task that it is not trained on.
        tolerance: float in [0, 1), the share of the score that may be lost.
        monitor: str, the figure of `evaluate` that is the score.
        mode: `"max"` if more of it is better, `"min"` if less is.
        densities: list of float in (0, 1], the densities to try.
        scope: `"layer"` keeps the same share of each kernel, `"global"` ranks
            the weights of all kernels together; one of each stays.
        retrain_epochs: int, how many of the last epochs of `fit` train what
            the task keeps alone (not in the paper as recalled); 0 searches
            when `fit` ends. A larger `tolerance` then costs less.

    Attributes:
        scores: dict of density to score, as the search asked; 1.0 is the
            network as it was trained.

    Raises:
        ValueError: as `TaskCallback`; if an argument is out of range; and,
            when the search begins, if `evaluate` gives no such figure.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.continual import EfficientPackNet, TaskModel
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = TaskModel(
    ...     keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    ... )
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.zeros((8, 20))
    >>> callback = EfficientPackNet(
    ...     "zeros", (x, y), monitor="loss", mode="min", densities=[0.1, 0.5]
    ... )
    >>> history = model.fit(x, y, callbacks=[callback], verbose=0)
    >>> model.task_summary()[0]["density"] in (0.1, 0.5, 1.0)
    True
    """

    def __init__(
        self,
        task,
        validation_data,
        tolerance=0.01,
        monitor="accuracy",
        mode="max",
        densities=_DENSITIES,
        scope="layer",
        retrain_epochs=0,
    ):
        super().__init__(task, retrain_epochs)
        self.validation_data = validation_data
        self.tolerance = check_share("tolerance", tolerance)
        self.monitor = monitor
        self.mode = check_choice("mode", mode, ("max", "min"))
        self.densities = check_densities(densities)
        self.scope = check_scope(scope)
        self.scores = {}

    def choose_masks(self):
        kernels = self.model.kernels
        weights = {n: abs(k.weight()) for n, k in kernels.items()}

        def score(density):
            masks = choose_masks(weights, density, self.scope)
            for name, mask in masks.items():
                kernels[name].assign_masks(mask, np.zeros_like(mask))
            self.scores[density] = self._evaluate()
            sign = 1 if self.mode == "max" else -1
            return sign * self.scores[density]

        whole = score(1.0)
        kept = 1 - self.tolerance
        minimum = whole * kept if whole >= 0 else whole / kept
        density = sparsest(self.densities, score, minimum)
        return choose_masks(weights, density, self.scope)

    def _evaluate(self):
        data, arguments = self.validation_data, {}
        if isinstance(data, (tuple, list)):
            data, arguments["batch_size"] = data[0], _BATCH
            arguments["y"] = self.validation_data[1]
        found = self.model.evaluate(
            data, verbose=0, return_dict=True, **arguments
        )
        if self.monitor not in found:
            raise ValueError(
                f"evaluate gives no {self.monitor!r}, but {sorted(found)}. "
                "Name one of these as `monitor`, or compile the model with "
                f"metrics=[{self.monitor!r}]."
            )
        return float(found[self.monitor])
