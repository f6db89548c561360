import abc

import keras
import numpy as np

from keras_sparse_rl._checks import check_integer

HELD_OUT = 2**32 - 1  # in place of the epoch


class Task(keras.utils.PyDataset, abc.ABC):
    """Sequences of ever new tasks, as data for `fit`.

    The base of `meta.tasks`. See "Meta-learning of Sequential Strategies" by
    Ortega et al. 2019 (https://arxiv.org/abs/1905.03030), section 3: each
    sequence comes from its own draw of hidden parameters, so that a model with
    a memory that predicts it best infers them from what it has seen. Inputs
    are what was observed one step before, zeros at the first step; targets
    what is observed now.

    An epoch has `steps_per_epoch` batches, and the next epoch has others.
    Equal seeds give equal batches (`fit` shuffles their order within an epoch
    by Python's `random`). To go on with an interrupted run where it stood,
    set `epoch`.

    A subclass draws sequences, `_draw(number, generator)`, says how they are
    seen, `features(observations)`, and brings the exact predictor.

    Args:
        predictor: `meta.BayesPredictor`.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Attributes:
        predictor: `meta.BayesPredictor`, the best that can be predicted.
        loss: `meta.LogLoss` for `compile`.
        num_outputs: int, outputs that the model needs at each step.
        epoch: int, which epoch's batches come now.

    Raises:
        ValueError: if a number is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.Bernoulli(length=5, batch_size=8, steps_per_epoch=2)
    >>> isinstance(task, meta.tasks.Task), len(task), task.num_outputs
    (True, 2, 1)
    >>> x, y = task[0]
    >>> x.shape, y.shape
    ((8, 5, 2), (8, 5))
    """

    def __init__(self, predictor, length, batch_size, steps_per_epoch, seed):
        super().__init__()
        self.predictor = predictor
        self.length = check_integer("length", length)
        self.batch_size = check_integer("batch_size", batch_size)
        self.steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch)
        self.seed = check_integer("seed", seed, minimum=0)
        self.epoch = 0

    @property
    def loss(self):
        """`meta.LogLoss` for `compile`."""
        return self.predictor.loss

    @property
    def num_outputs(self):
        """int, outputs that the model needs at each step."""
        return self.loss.num_outputs

    @abc.abstractmethod
    def _draw(self, number, generator):
        """Observations of new tasks, array `(number, length, ...)`."""

    @abc.abstractmethod
    def features(self, observations):
        """How a model sees observations.

        Args:
            observations: array `(batch, time, ...)`.

        Returns:
            float32 array `(batch, time, features)`.
        """

    def targets(self, observations):
        """What is to be predicted at each step, array `(batch, time)`."""
        return self.predictor.targets(observations)

    def inputs(self, observations):
        """What a model sees before each of the observations.

        Args:
            observations: array `(batch, time, ...)`.

        Returns:
            float32 array `(batch, time, features)`, zeros at the first step.
        """
        features = np.asarray(self.features(observations), "float32")
        return np.concatenate(
            [np.zeros_like(features[:, :1]), features[:, :-1]], axis=1
        )

    def held_out(self, number=1000):
        """Observations of tasks that are in no epoch.

        Args:
            number: int, sequences.

        Returns:
            Array `(number, length, ...)`, always the same ones.
        """
        key = (self.seed, HELD_OUT)
        return self._draw(number, np.random.default_rng(key))

    def __len__(self):
        return self.steps_per_epoch

    def __getitem__(self, index):
        generator = np.random.default_rng((self.seed, self.epoch, index))
        observations = self._draw(self.batch_size, generator)
        return self.inputs(observations), self.targets(observations)

    def on_epoch_end(self):
        self.epoch += 1


def one_hot(symbols, number):
    """float32 array `(..., number)`."""
    return np.eye(number, dtype="float32")[symbols]
