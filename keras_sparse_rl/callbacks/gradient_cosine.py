import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl.callbacks.loss_gradients import find_outputs
from keras_sparse_rl.callbacks.loss_gradients import loss_gradients
from keras_sparse_rl.callbacks.loss_gradients import name_of
from keras_sparse_rl.callbacks.step_journal import StepJournal
from keras_sparse_rl.callbacks.train_step_callback import TrainStepCallback
from keras_sparse_rl.gradients.gate_gradients import add_gradients
from keras_sparse_rl.gradients.gradient_gate import GradientGate
from keras_sparse_rl.gradients.gradient_gate import state_variable
from keras_sparse_rl.optimizers.kernel_slots import steps_taken


class GradientCosine(TrainStepCallback):
    """Lets auxiliary losses train only as far as they help the main one.

    See "Adapting Auxiliary Losses Using Gradient Similarity" by Du et al. 2018
    (https://arxiv.org/abs/1812.02224), section 3. At each step the gradient of
    every auxiliary loss is compared with that of the main loss and weighed by
    their cosine. Each output's loss comes from `compile` with its
    `loss_weights`, sample weights and masks; regularization and `add_loss`
    count to the main loss, and so do outputs that are not named here. Only
    variables that both losses reach are gated; heads are trained by their own
    loss. One auxiliary loss costs one more backward pass.

    Reported, as means of the epoch so far: `cosine_<name>` and
    `weight_<name>` of each auxiliary loss (means over shared layers or
    variables with those scopes), and `loss_<name>` of functions. The `loss`
    is the plain weighted sum of the model's own losses, as ever. Gradients of
    embeddings become dense, so that optimizers move all of their rows.

    Args:
        main: str, name of the main output, or list of such names. Outputs are
            named by the keys of a dict, or by the layers that make them.
        auxiliary: list of names of outputs, or of functions `(model, x, y,
            y_pred) -> scalar` of losses that are no output's; their
            `__name__` is reported.
        mode: `"weighted"`, weight max(0, cosine); or `"unweighted"`, weight 1
            where the cosine is above `threshold`, else 0.
        scope: `"model"`, one cosine; `"layer"` or `"variable"`, one for each.
        smoothing: float in [0, 1), how much of the average cosine is kept at
            each step; 0 uses each step's own. Averages start anew with each
            `fit`.
        norm_cap: float or None. With a number no auxiliary part is longer
            than `norm_cap` times the main gradient.
        threshold: float, for `"unweighted"`.
        state_file: path or None, for `smoothing`: the averages of the last
            epochs, so that `BackupAndRestore` goes on exactly. Removed when
            training ends.

    Raises:
        ValueError: if an argument is out of range; and, before the first
            step, if a name is not an output's, an auxiliary loss has no
            gradient or shares no variable with the main one, or the train
            step is taken.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import GradientCosine
    >>> inputs = keras.Input((3,))
    >>> shared = keras.layers.Dense(4, "relu")(inputs)
    >>> outputs = {name: keras.layers.Dense(1)(shared) for name in "ab"}
    >>> model = keras.Model(inputs, outputs)
    >>> model.compile("sgd", {"a": "mse", "b": "mae"})
    >>> x, y = keras.ops.ones((8, 3)), keras.ops.ones((8, 1))
    >>> history = model.fit(x, {"a": y, "b": y}, verbose=0,
    ...                     callbacks=[GradientCosine("a", ["b"])])
    >>> [k for k in history.history if k.startswith(("cosine", "weight"))]
    ['cosine_b', 'weight_b']
    """

    def __init__(
        self,
        main,
        auxiliary,
        mode="weighted",
        scope="model",
        smoothing=0.0,
        norm_cap=None,
        threshold=0.0,
        state_file=None,
    ):
        super().__init__()
        self.main = _check_main(main)
        self.auxiliary = _check_auxiliary(auxiliary, self.main)
        self.gate = GradientGate(mode, threshold, scope, smoothing, norm_cap)
        self._names = [name_of(a) for a in self.auxiliary]
        self._journal = None
        if state_file is not None:
            if not self.gate.smoothing:
                raise ValueError(
                    "`state_file` keeps the averages of `smoothing`, and "
                    f"there are none with smoothing={smoothing}. Received: "
                    f"state_file={state_file!r}. Leave it out."
                )
            self._journal = StepJournal(state_file)

    def prepare(self):
        model = self.model
        output = getattr(model, "output", None) if model.built else None
        if output is not None:
            find_outputs(model, output, self.auxiliary, self.main)
        self._num_variables = None
        with model.distribute_strategy.scope():
            if model.built:
                self._build_gate()
            # Sums of cosines, weights and functions' values, and the number
            # of steps in them.
            self._sums = state_variable("sums", (3, len(self.auxiliary)))
            self._count = state_variable("count", ())
        self._started = False

    def _build_gate(self):
        variables = self.model.trainable_variables
        self._num_variables = len(variables)
        if variables:
            self.gate.build(len(self.auxiliary), variables)

    def on_epoch_begin(self, epoch, logs=None):
        self._sums.assign(ops.zeros_like(self._sums))
        self._count.assign(0.0)
        if self._journal is not None and not self._started:
            # BackupAndRestore has put the saved steps back by now.
            variables = self.gate.variables
            shapes = [tuple(variable.shape) for variable in variables]
            values = self._journal.start(self._step(), shapes)
            for variable, value in zip(variables, values or []):
                variable.assign(value)
        self._started = True

    def on_train_batch_end(self, batch, logs=None):
        if self._journal is not None:
            values = [v.numpy().tolist() for v in self.gate.variables]
            self._journal.write(self._step(), values)

    def on_epoch_end(self, epoch, logs=None):
        if self._journal is not None:
            self._journal.end_epoch()

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._journal is not None:
            self._journal.remove()

    def train_step(self, data):
        model = self.model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        found = loss_gradients(
            model, x, y, sample_weight, self.auxiliary, self.main
        )
        _check_gradients(self.main, self._names, found.main, found.auxiliaries)
        if self._num_variables != len(model.trainable_variables):
            with tf.init_scope():  # The first call has built the model.
                self._build_gate()
        replicas = model.distribute_strategy.num_replicas_in_sync
        gated = self._gated(found, replicas)
        self._count_in(gated, found)
        model.optimizer.apply_gradients(
            zip(gated.gradients, model.trainable_variables)
        )
        for metric in model.metrics:
            if metric.name == "loss":
                leaves = keras.tree.flatten(x)
                batch = ops.shape(next(i for i in leaves if i is not None))[0]
                metric.update_state(found.loss * replicas, sample_weight=batch)
                break
        logs = model.compute_metrics(x, y, found.y_pred, sample_weight)
        return {**logs, **self._figures()}

    def _gated(self, found, replicas):
        """Gates what is shared; the rest of the loss is added to the main."""
        whole = [add_gradients(a, b) for a, b in zip(found.main, found.rest)]
        lists = [whole, *found.auxiliaries]
        if replicas > 1:
            # All replicas compare the sums; the optimizer adds up again.
            lists = [_summed_over_replicas(gradients) for gradients in lists]
        whole, *auxiliaries = lists
        # A head with a regularizer is not shared: outputs' losses decide.
        gated = self.gate(
            [None if a is None else b for a, b in zip(found.main, whole)],
            auxiliaries,
        )
        gradients = [
            add_gradients(g, rest) if main is None else g
            for g, main, rest in zip(gated.gradients, found.main, whole)
        ]
        if replicas > 1:
            gradients = [g if g is None else g / replicas for g in gradients]
        return gated._replace(gradients=gradients)

    def _count_in(self, gated, found):
        values = [found.functions.get(name, 0.0) for name in self._names]
        cosines, weights = self.gate.means(gated, found.main, found.auxiliaries)
        figures = ops.stack(
            [
                ops.cast(cosines, "float32"),
                ops.cast(weights, "float32"),
                ops.stack([ops.cast(v, "float32") for v in values]),
            ]
        )
        finite = ops.all(ops.isfinite(figures))
        figures = ops.where(finite, figures, ops.zeros_like(figures))
        self._sums.assign_add(figures)
        self._count.assign_add(ops.cast(finite, "float32"))

    def _figures(self):
        means = self._sums / ops.maximum(self._count, 1.0)
        return {
            f"{what}_{name}": means[row, column]
            for row, what in enumerate(("cosine", "weight", "loss"))
            for column, name in enumerate(self._names)
            if what != "loss" or callable(self.auxiliary[column])
        }

    def _step(self):
        return steps_taken(self.model.optimizer)


def _summed_over_replicas(gradients):
    context = tf.distribute.get_replica_context()
    return [
        g if g is None else context.all_reduce("SUM", tf.convert_to_tensor(g))
        for g in gradients
    ]


def _check_main(main):
    names = [main] if isinstance(main, str) else main
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            "`main` must be the name of an output, or a list of names. "
            f"Received: main={main!r}."
        )
    return list(names)


def _check_auxiliary(auxiliary, main):
    if not isinstance(auxiliary, (list, tuple)):
        auxiliary = [auxiliary]
    auxiliary = list(auxiliary)
    names = [name_of(a) for a in auxiliary]
    if (
        not auxiliary
        or not all(isinstance(name, str) for name in names)
        or len({*names, *main}) < len(names) + len(main)
    ):
        raise ValueError(
            "`auxiliary` must list names of outputs or functions, one or "
            "more, each once and none of them in `main`. Received: "
            f"main={main}, auxiliary={auxiliary}."
        )
    return auxiliary


def _check_gradients(main_names, names, main, auxiliaries):
    if all(g is None for g in main):
        raise ValueError(
            f"The main outputs {main_names} have no loss with a gradient. Give "
            "them a loss in `compile`."
        )
    for name, auxiliary in zip(names, auxiliaries):
        if all(g is None for g in auxiliary):
            raise ValueError(
                f"The auxiliary loss {name!r} has no gradient: no trainable "
                "variable changes it. Give its output a loss in `compile`, "
                "and use TensorFlow or keras.ops in functions of your own."
            )
        if all(a is None or b is None for a, b in zip(main, auxiliary)):
            raise ValueError(
                f"The auxiliary loss {name!r} shares no trainable variable "
                "with the main loss, so gating it would do nothing."
            )
