import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_share
from keras_sparse_rl.gradients.gate_gradients import check_gate
from keras_sparse_rl.gradients.gate_gradients import gate_gradients

SCOPES = ("model", "layer", "variable")


class GradientGate:
    """`gate_gradients` with a memory: averages of the cosines over steps.

    What `callbacks.GradientCosine` uses in `fit`, and what an agent's
    `LossTerm(gate=...)` takes. The paper (Du et al. 2018,
    https://arxiv.org/abs/1812.02224) compares gradients of single batches of
    the whole model; averages, narrower scopes and the cap are options.

    Args:
        mode: `"weighted"`, weight max(0, cosine); or `"unweighted"`, weight 1
            where the cosine is above `threshold`, else 0.
        threshold: float, for `"unweighted"`.
        scope: `"model"`, one cosine; `"layer"` or `"variable"`, one for each.
        smoothing: float in [0, 1), how much of the average is kept at each
            step. 0 uses each step's own cosine, and only then, and with
            `threshold >= 0`, the gated gradient never opposes the main one.
        norm_cap: float or None. With a number no auxiliary part is longer
            than `norm_cap` times the main gradient.

    Attributes:
        variables: list of `keras.Variable`, its state: the averages and the
            number of steps in them. Empty with `smoothing=0`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.gradients import GradientGate
    >>> gate = GradientGate(mode="unweighted")
    >>> weight = keras.Variable([1.0, 1.0], name="weight")
    >>> gate.build(1, [weight])
    >>> gated = gate([keras.ops.array([1.0, 0.0])],
    ...              [[keras.ops.array([1.0, 1.0])]])
    >>> float(gated.weights[0, 0])
    1.0
    """

    def __init__(
        self,
        mode="weighted",
        threshold=0.0,
        scope="model",
        smoothing=0.0,
        norm_cap=None,
    ):
        check_gate(mode, threshold, norm_cap)
        self.mode = mode
        self.threshold = threshold
        self.scope = check_choice("scope", scope, SCOPES)
        self.smoothing = check_share("smoothing", smoothing)
        self.norm_cap = norm_cap
        self.variables = []
        self._groups = None

    def build(self, num_auxiliaries, variables):
        """Prepares for gradients of `variables`; the averages start anew.

        One gate serves one model, callback or agent at a time.

        Args:
            num_auxiliaries: int.
            variables: list of `keras.Variable`, in the gradients' order.
        """
        self._groups = _groups(self.scope, variables)
        self.variables = []
        if self.smoothing:
            shape = (num_auxiliaries, max(self._groups) + 1)
            self.variables = [
                state_variable("cosine_average", shape),
                state_variable("steps", ()),
            ]

    def __call__(self, main, auxiliaries):
        """Gates gradients, and counts them into the averages.

        Args:
            main: list of tensors or None, for the variables of `build`.
            auxiliaries: list of such lists.

        Returns:
            `GatedGradients`; its cosines are this step's.
        """
        if self._groups is None:
            raise ValueError(
                "This GradientGate knows no variables yet. Call "
                "gate.build(num_auxiliaries, variables) before the first step."
            )
        gated = self._gated(main, auxiliaries, None)
        if not self.smoothing:
            return gated
        average, steps = self.variables
        # A step of mixed precision that overflowed is no news.
        finite = ops.all(ops.isfinite(gated.cosines))
        seen = ops.cast(gated.cosines, average.dtype)
        kept = self.smoothing * average + (1 - self.smoothing) * seen
        average.assign(ops.where(finite, kept, average))
        steps.assign(ops.where(finite, steps + 1.0, steps))
        # As in Adam: the first averages are not drawn to the 0 at the start.
        share = 1.0 - ops.power(self.smoothing, ops.maximum(steps, 1.0))
        smooth = self._gated(main, auxiliaries, average / share)
        return smooth._replace(cosines=gated.cosines)

    def means(self, gated, main, auxiliaries):
        """Cosines and weights to report: means over groups that are shared.

        Args:
            gated: `GatedGradients` that this gate made.
            main: the gradients it was made of.
            auxiliaries: the same.

        Returns:
            Two tensors `(number of auxiliaries,)`.
        """
        shared = [
            sorted(
                {
                    group
                    for group, a, b in zip(self._groups, main, auxiliary)
                    if a is not None and b is not None
                }
            )
            for auxiliary in auxiliaries
        ]
        return tuple(
            ops.stack(
                [
                    ops.mean(ops.take(figures[row], places))
                    for row, places in enumerate(shared)
                ]
            )
            for figures in (gated.cosines, gated.weights)
        )

    def _gated(self, main, auxiliaries, cosines):
        return gate_gradients(
            main,
            auxiliaries,
            self.mode,
            self.threshold,
            self.norm_cap,
            self._groups,
            cosines,
        )


def state_variable(name, shape):
    """A float32 variable of zeros, the same on all replicas."""
    return keras.Variable(
        ops.zeros(shape),
        trainable=False,
        dtype="float32",
        aggregation="only_first_replica",
        name=name,
    )


def _groups(scope, variables):
    """For each variable the number of its group."""
    if scope == "model":
        return [0] * len(variables)
    if scope == "variable":
        return list(range(len(variables)))
    # A variable's path is that of its layer and its own name. Layers of two
    # models may have one path, but no layer has a name twice.
    numbers, layer, names = [], None, set()
    for variable in variables:
        path, _, name = variable.path.rpartition("/")
        if path != layer or name in names:
            layer, names = path, set()
            numbers.append(numbers[-1] + 1 if numbers else 0)
        else:
            numbers.append(numbers[-1])
        names.add(name)
    return numbers
