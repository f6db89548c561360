import abc

import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment


class ContextualTask(InGraphEnvironment):
    """Tasks of many episodes whose contexts, and what they mean, come back.

    The "open-ended yet repetitious environments" of "Been There, Done That"
    by Ritter et al. 2018 (https://arxiv.org/abs/1805.09692), section 4. A
    task draws contexts, pairs each with a target (an arm, a place), and puts
    every pair into a bag as often as it is to be met; its episodes draw from
    the bag without replacement. Then the next task begins, with other contexts
    and other targets. An episode has a fixed number of steps.

    The base of `BarcodeBandit`, `OmniglotBandit`, `CompositionalBandit` and
    `WaterMaze`. A subclass writes `_draw_contexts(seed)`,
    `_begin(state, seed)` and `_act(state, action, target, seed)`, and may
    write `_draw_targets(seed)`, `_context(state)` and `_observe_more(state)`.
    Observations are dicts of `"context"` and
    `"is_task_start"`, float 1 at the first step of a task, which clears an
    `EpisodicLSTM`'s memory, and what the subclass adds.

    Args:
        context_spec: TF-Agents spec of a context.
        action_spec: bounded TF-Agents spec.
        num_targets: int, number of different targets.
        num_contexts: int, contexts of a task.
        exposures: int, how often each context is met.
        steps: int, steps of an episode.
        more_specs: dict of specs of further observations.
        batch_size: int, copies of the environment.
        seed: int.

    Attributes:
        best_return: float, mean return of an episode of a player who knows
            the target.

    Example:

    >>> from keras_sparse_rl.environments import BarcodeBandit, ContextualTask
    >>> bandit = BarcodeBandit(num_arms=3, num_contexts=3, batch_size=2)
    >>> isinstance(bandit, ContextualTask), bandit.episodes
    (True, 30)
    """

    def __init__(
        self,
        context_spec,
        action_spec,
        num_targets,
        num_contexts,
        exposures,
        steps,
        more_specs=None,
        batch_size=1,
        seed=0,
    ):
        self.num_targets = num_targets
        self.num_contexts = check_integer("num_contexts", num_contexts)
        self.exposures = check_integer("exposures", exposures)
        self.steps = steps
        check_integer("batch_size", batch_size)
        self._size = batch_size
        super().__init__(
            {
                "context": context_spec,
                "is_task_start": BoundedTensorSpec((), tf.float32, 0, 1),
                **(more_specs or {}),
            },
            action_spec,
            batch_size,
            seed,
        )

    @property
    def episodes(self):
        """int, episodes of a task."""
        return self.num_contexts * self.exposures

    @abc.abstractmethod
    def _draw_contexts(self, seed):
        """Contexts of new tasks, `(batch, num_contexts, ...)`."""

    @abc.abstractmethod
    def _begin(self, state, seed):
        """Dict of what an episode adds to the state, at its start."""

    @abc.abstractmethod
    def _act(self, state, action, target, seed):
        """One step: dict of what it changes in the state, and the rewards."""

    def _draw_targets(self, seed):
        """Targets of new tasks, int32 `(batch, num_contexts)`.

        At random, but each of them at least once if there are so many
        contexts.
        """
        size, number = self._size, self.num_contexts
        first, second = tf.unstack(tf.random.split(seed, 2))
        targets = tf.random.stateless_uniform(
            (size, number), first, 0, self.num_targets, tf.int32
        )
        if number >= self.num_targets:
            every = tf.tile(tf.range(self.num_targets)[tf.newaxis], [size, 1])
            targets = tf.concat([every, targets[:, self.num_targets :]], 1)
        return tf.gather(
            targets, permutations(size, number, second), batch_dims=1
        )

    def _context(self, state):
        """What is seen of the present context."""
        return self._now(state, "contexts")

    def _observe_more(self, state):
        return {}

    def exposure(self, state):
        """How often the present context was met before, int32 `(batch,)`."""
        now = tf.gather(
            state["order"], state["episode"][:, tf.newaxis], batch_dims=1
        )
        earlier = tf.range(self.episodes) < state["episode"][:, tf.newaxis]
        same = tf.equal(state["order"], now) & earlier
        return tf.reduce_sum(tf.cast(same, tf.int32), axis=1)

    def _start(self, seed):
        seeds = tf.unstack(tf.random.split(seed, 4))
        order = permutations(self._size, self.episodes, seeds[0])
        zeros = tf.zeros((self._size,), tf.int32)
        state = {
            "contexts": self._draw_contexts(seeds[1]),
            "targets": self._draw_targets(seeds[2]),
            "order": order % self.num_contexts,
            "episode": zeros,
            "time": zeros,
        }
        return {**state, **self._begin(state, seeds[3])}

    def _restart(self, state, seed):
        episode = state["episode"] + 1
        over = episode >= self.episodes
        time = tf.zeros_like(episode)
        following = {**state, "episode": episode, "time": time}
        following.update(self._begin(following, seed))

        def begun():
            return tf.nest.map_structure(
                lambda new, old: tf.where(
                    tf.reshape(over, [-1] + [1] * (len(old.shape) - 1)),
                    new,
                    old,
                ),
                self._start(seed),
                following,
            )

        return tf.cond(tf.reduce_any(over), begun, lambda: following)

    def _advance(self, state, action, seed):
        changed, reward = self._act(
            state, tf.cast(action, tf.int32), self._now(state, "targets"), seed
        )
        time = state["time"] + 1
        ended = time >= self.steps
        state = {**state, **changed, "time": time}
        return state, reward, ended, tf.zeros_like(ended)

    def _observe(self, state):
        first = tf.equal(state["episode"], 0) & tf.equal(state["time"], 0)
        return {
            "context": self._context(state),
            "is_task_start": tf.cast(first, tf.float32),
            **self._observe_more(state),
        }

    def _now(self, state, name):
        """The present episode's context or target."""
        episode = tf.minimum(state["episode"], self.episodes - 1)
        number = tf.gather(state["order"], episode, batch_dims=1)
        return tf.gather(state[name], number, batch_dims=1)


def permutations(batch_size, number, seed):
    """Random permutations, int32 `(batch_size, number)`."""
    uniform = tf.random.stateless_uniform((batch_size, number), seed)
    return tf.math.top_k(uniform, number)[1]
