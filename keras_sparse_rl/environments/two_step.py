import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.environments.barcode_bandit import draw_barcodes
from keras_sparse_rl.environments.contextual_task import permutations
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks


class TwoStep(InGraphEnvironment):
    """The two-step task, with cues that bring back trials of long ago.

    The episodic two-step task of "Been There, Done That" by Ritter et al.
    2018 (https://arxiv.org/abs/1805.09692), after Daw et al. 2011. In a trial
    action 0 or 1 leads to the outcome of the same number with probability
    `common`, else to the other; there a reward is drawn: with probability
    `reward` at the better outcome, `1 - reward` at the other. What is better
    changes between trials with probability `switch`. Two time steps a trial:
    at the choice the action counts, at the outcome it is ignored.

    An episode is a task. In its first half trials are uncued: the context is
    0 at the choice, and a new barcode at the outcome. In the second half they
    are cued, each by the barcode of one of the first half's trials, in random
    order: the outcome reached then gives the same reward as there, and the
    other outcome the opposite one. (The last rule is ours: the task is known
    to us from a re-implementation.)

    Observations: `"stage"`, one-hot `(3,)` (choice, outcome 0, outcome 1),
    `"context"`, `"is_task_start"`, and `"write"`, float 1 at the outcome of
    uncued trials, the signal to store for an `EpisodicLSTM(write="signal")`.
    The best return is `trials / 2 * common` in the cued half (45); at random
    it is half of the trials.

    Args:
        trials: int, an even number.
        barcode_length: int, bits of a barcode, at most 16.
        common: float, probability of an action's own outcome.
        reward: float, probability of reward at the better outcome.
        switch: float, probability that the better outcome changes.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range, or there are fewer
            barcodes of this length than uncued trials.

    Example:

    >>> from keras_sparse_rl.environments import TwoStep
    >>> observation = TwoStep(trials=10, batch_size=2).reset().observation
    >>> observation["stage"].numpy()[0], observation["context"].shape
    (array([1., 0., 0.], dtype=float32), TensorShape([2, 10]))
    """

    def __init__(
        self,
        trials=100,
        barcode_length=10,
        common=0.9,
        reward=0.9,
        switch=0.1,
        batch_size=1,
        seed=0,
    ):
        self.trials = check_integer("trials", trials, minimum=2)
        if self.trials % 2:
            raise ValueError(
                "`trials` must be even: the first half is uncued. Received: "
                f"trials={trials!r}."
            )
        self._half = self.trials // 2
        length = check_integer("barcode_length", barcode_length)
        if length > 16 or 2**length - 1 < self._half:
            raise ValueError(
                "`barcode_length` must be at most 16, and there must be as "
                "many different barcodes, 2**barcode_length - 1, as uncued "
                f"trials. Received: barcode_length={barcode_length}, "
                f"trials={trials}."
            )
        self._length = length
        self._common = check_unit("common", common)
        self._reward = check_unit("reward", reward)
        self._switch = check_unit("switch", switch)
        flag = BoundedTensorSpec((), tf.float32, 0, 1)
        super().__init__(
            {
                "context": BoundedTensorSpec((length,), tf.float32, 0, 1),
                "is_task_start": flag,
                "stage": BoundedTensorSpec((3,), tf.float32, 0, 1),
                "write": flag,
            },
            BoundedTensorSpec((), tf.int32, 0, 1, "action"),
            check_integer("batch_size", batch_size),
            seed,
        )

    def _start(self, seed):
        seeds = tf.unstack(tf.random.split(seed, 3))
        size = self.batch_size
        zeros = tf.zeros((size,), tf.int32)
        return {
            "barcodes": draw_barcodes(size, self._half, self._length, seeds[0]),
            "cued": permutations(size, self._half, seeds[1]),
            "better": tf.random.stateless_uniform(
                (size,), seeds[2], 0, 2, tf.int32
            ),
            "trial": zeros,
            "stage": zeros,
            # What happened in each trial: -1 where nothing did yet.
            "actions": tf.fill((size, self.trials), -1),
            "outcomes": tf.fill((size, self.trials), -1),
            "rewards": tf.fill((size, self.trials), -1),
        }

    def cued_trial(self, state):
        """The uncued trial that the present one brings back.

        Args:
            state: dict.

        Returns:
            int32 `(batch,)`; before the cued half a number without meaning.
        """
        number = tf.maximum(state["trial"] - self._half, 0)
        number = tf.minimum(number, self._half - 1)
        return tf.gather(state["cued"], number, batch_dims=1)

    def _advance(self, state, action, seed):
        action = tf.cast(action, tf.int32)
        at_choice = tf.equal(state["stage"], 0)
        uniform = tf.random.stateless_uniform((3, self.batch_size), seed)
        is_common = uniform[0] < self._common
        outcome = tf.where(is_common, action, 1 - action)
        # Cued trials answer as the trial that they bring back.
        cued = self.cued_trial(state)
        known = tf.gather(state["outcomes"], cued, batch_dims=1)
        paid = tf.gather(state["rewards"], cued, batch_dims=1)
        as_before = tf.where(tf.equal(outcome, known), paid, 1 - paid)
        is_better = tf.equal(outcome, state["better"])
        pays = tf.where(is_better, self._reward, 1 - self._reward)
        drawn = tf.cast(uniform[1] < pays, tf.int32)
        is_cued = state["trial"] >= self._half
        reward = tf.where(is_cued, as_before, drawn)
        now = tf.one_hot(state["trial"], self.trials, True, False)
        now = tf.logical_and(now, at_choice[:, tf.newaxis])
        record = {
            name: tf.where(now, new[:, tf.newaxis], state[name])
            for name, new in (
                ("actions", action),
                ("outcomes", outcome),
                ("rewards", reward),
            )
        }
        switches = ~at_choice & (uniform[2] < self._switch)
        trial = state["trial"] + tf.cast(~at_choice, tf.int32)
        state = {
            **state,
            **record,
            "better": tf.where(switches, 1 - state["better"], state["better"]),
            "trial": trial,
            "stage": tf.where(at_choice, 1 + outcome, 0),
        }
        reward = tf.where(at_choice, tf.cast(reward, tf.float32), 0.0)
        ended = trial >= self.trials
        return state, reward, ended, tf.zeros_like(ended)

    def _observe(self, state):
        trial, at_choice = state["trial"], tf.equal(state["stage"], 0)
        is_cued = trial >= self._half
        number = tf.minimum(trial, self._half - 1)
        number = tf.where(is_cued, self.cued_trial(state), number)
        barcode = tf.gather(state["barcodes"], number, batch_dims=1)
        is_shown = (is_cued | ~at_choice) & (trial < self.trials)
        is_start = tf.equal(trial, 0) & at_choice
        return {
            "context": barcode * tf.cast(is_shown, tf.float32)[:, tf.newaxis],
            "is_task_start": tf.cast(is_start, tf.float32),
            "stage": tf.one_hot(state["stage"], 3),
            "write": tf.cast(~at_choice & ~is_cued, tf.float32),
        }

    def _render(self, state):
        cells = np.ones((self.batch_size, 2, 3), int)
        rows, stage = np.arange(self.batch_size), state["stage"].numpy()
        cells[rows, 0, stage] = 2
        cells[rows, 1, 1 + state["better"].numpy()] = 3
        cells[:, 1, 0] = 0
        return blocks(cells)
