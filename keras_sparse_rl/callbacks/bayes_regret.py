import keras
import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.meta.tasks import Task


class BayesRegret(keras.callbacks.Callback):
    """Reports what a meta-learner misses against the best there is.

    In `fit`, with a task of `meta.tasks`: its predictions on sequences held
    out are compared with those of the exact predictor, after each epoch. What
    they cost is the Kullback-Leibler divergence: the mean excess of the log
    loss given what was seen, without the noise of what comes next. Reported
    are `bayes_excess`, nats a step, `bayes_excess_worst`, that of the worst
    position, and `bayes_regret`, nats a sequence, the cumulative regret of
    Genewein et al. 2023 (https://arxiv.org/abs/2302.03067). The attribute
    `excess` holds the last values by position.

    In `agents.train`, with an environment that knows what can be earned, such
    as `environments.BernoulliBandit`: `regret`, how much less the episodes
    earned than one who knows the task would, and `regret_above_optimal`, how
    much less than the best who does not. It goes by `evaluation_return`
    where there is one, else by `return`.

    Put it before `TensorBoard` in the list of callbacks.

    Args:
        reference: `meta.tasks.Task`, or an environment with `best_return` and,
            for the second figure, `optimal_return`.
        num_sequences: int, sequences held out.
        output: str, which output of a model that predicts a dict. None if
            there is one.
        every: int, epochs between two comparisons.

    Raises:
        ValueError: if the reference is none, a number is out of its range, or
            the model's outputs do not fit the task (before the first step).

    Example:

    >>> import keras
    >>> from keras_sparse_rl import meta
    >>> from keras_sparse_rl.callbacks import BayesRegret
    >>> task = meta.tasks.Bernoulli(length=5, steps_per_epoch=2)
    >>> model = keras.Sequential([
    ...     keras.Input((None, 2)), keras.layers.LSTM(4, return_sequences=True),
    ...     keras.layers.Dense(task.num_outputs)])
    >>> model.compile("adam", task.loss)
    >>> history = model.fit(task, verbose=0, callbacks=[BayesRegret(task)])
    >>> sorted(history.history)
    ['bayes_excess', 'bayes_excess_worst', 'bayes_regret', 'loss']
    """

    def __init__(self, reference, num_sequences=1000, output=None, every=1):
        super().__init__()
        self.num_sequences = check_integer("num_sequences", num_sequences)
        self.every = check_integer("every", every)
        self.output = output
        self.reference = reference
        self.excess = None
        self._optimal = None
        self._held_out = self._best = None
        if not isinstance(reference, Task):
            if not hasattr(reference, "best_return"):
                raise ValueError(
                    "`reference` must be one of meta.tasks, or an environment "
                    "that knows its `best_return`, such as environments."
                    "BernoulliBandit (itself, not what is wrapped around it). "
                    f"Received: reference={reference!r} of type "
                    f"{type(reference)}."
                )
            self._optimal = getattr(reference, "optimal_return", None)

    def on_train_begin(self, logs=None):
        if not isinstance(self.reference, Task):
            return
        # One batch, to see of which shape the predictions are.
        number = self.reference.num_outputs
        outputs = self._predicted(self.reference.held_out(1))
        if getattr(outputs, "shape", (None,))[-1] != number:
            shape = keras.tree.map_structure(np.shape, outputs)
            raise ValueError(
                "The model must predict the parameters of the task's "
                f"observations, (batch, time, {number}), or name them by "
                f"`output`. Received: outputs of shape {shape}, "
                f"output={self.output!r}."
            )
        # The same in every epoch, and so is what is best there.
        predictor = self.reference.predictor
        self._held_out = self.reference.held_out(self.num_sequences)
        self._best = predictor.outputs(predictor.states(self._held_out))

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        logs = {} if logs is None else logs
        if isinstance(self.reference, Task):
            self._compare(logs)
        else:
            self._subtract(logs)

    def _compare(self, logs):
        outputs = np.asarray(self._predicted(self._held_out), "float64")
        excess = self.reference.loss.divergence(self._best, outputs)
        self.excess = np.asarray(excess).mean(0)
        logs["bayes_excess"] = float(self.excess.mean())
        logs["bayes_excess_worst"] = float(self.excess.max())
        logs["bayes_regret"] = float(self.excess.sum())

    def _predicted(self, observations):
        task = self.reference
        outputs = self.model.predict(
            task.inputs(observations), batch_size=task.batch_size, verbose=0
        )
        if isinstance(outputs, dict) and self.output in outputs:
            outputs = outputs[self.output]
        return outputs

    def _subtract(self, logs):
        found = logs.get("evaluation_return", logs.get("return"))
        if found is None:
            raise ValueError(
                "There are no returns to compare with. In `fit` give "
                "BayesRegret one of meta.tasks; an environment is for "
                f"agents.train. Received: reference={self.reference!r}."
            )
        logs["regret"] = self.reference.best_return - found
        if self._optimal is not None:
            logs["regret_above_optimal"] = self._optimal - found
