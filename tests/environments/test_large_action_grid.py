"""The grid with 756 actions against plain Python written from its rules."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.environments import LargeActionGrid


class Twin:
    """The rules for one copy; `fails` stands for the coin."""

    def __init__(self, size, ways, fast, faulty):
        self.size, self.ways, self.fast, self.faulty = size, ways, fast, faulty

    def step(self, cell, action, fails):
        """New cell, reward, and whether the goal is reached."""
        way, move = divmod(action, 9)
        down, right = move // 3 - 1, move % 3 - 1
        y, x = divmod(cell, self.size)
        is_faulty = way >= self.ways - self.faulty
        reward = -0.02 if is_faulty else 0.0
        repeats = 1
        if 1 <= way <= self.fast:
            repeats = 2
        elif is_faulty and fails:
            repeats = 0
        for _ in range(repeats):
            y = min(max(y + down, 0), self.size - 1)
            x = min(max(x + right, 0), self.size - 1)
            if (y, x) == (0, 0):
                return 0, round(reward + 1.0, 4), True
        return y * self.size + x, round(reward - 0.02, 4), False


def arrays(time_step):
    return tf.nest.map_structure(lambda x: x.numpy(), time_step)


def test_by_its_rules():
    environment = LargeActionGrid(batch_size=64, seed=1, time_limit=20)
    twin = Twin(9, 84, 3, 64)
    generator = np.random.default_rng(0)
    step = tf.function(environment.step)
    environment.reset()
    outcomes = {True: 0, False: 0}
    ended, timed_out, fast = 0, 0, 0
    for _ in range(60):
        before = arrays(environment.current_time_step())
        cells = environment.carry["state"]["cell"].numpy()
        times = environment.carry["state"]["time"].numpy()
        # Half of them plain or fast, or hardly any would be.
        action = generator.integers(0, 756, 64)
        action[::2] = generator.integers(0, 36, 32)
        after = arrays(step(action.astype(np.int32)))
        np.testing.assert_array_equal(before.observation, cells)
        is_last = after.step_type == ts.StepType.LAST
        for row in np.flatnonzero(before.step_type != ts.StepType.LAST):
            expected = {
                fails: twin.step(cells[row], action[row], fails)
                for fails in (True, False)
            }
            found = (
                after.observation[row],
                round(float(after.reward[row]), 4),
                after.discount[row] == 0,
            )
            assert found in expected.values()
            if expected[True] != expected[False]:
                outcomes[found == expected[True]] += 1
            timed_out += not found[2] and is_last[row]
            assert is_last[row] == (found[2] or times[row] + 1 == 20)
            ended += found[2]
            fast += 9 <= action[row] < 36
    total = sum(outcomes.values())
    assert abs(outcomes[True] - total / 2) < 4 * np.sqrt(total / 4)
    assert min(ended, timed_out, fast) > 10


@pytest.mark.parametrize("size, ways, fast", [(9, 84, 3), (4, 3, 1)])
def test_best_returns_are_those_of_value_iteration(size, ways, fast):
    environment = LargeActionGrid(size, ways, fast, 1)
    twin = Twin(size, ways, fast, 1)
    for actions, best in (
        (range(9 * (1 + fast)), environment.best_return),
        (environment.core_actions, environment.best_core_return),
    ):
        value = np.zeros(size**2)
        for _ in range(size + 1):
            for cell in range(1, size**2):
                steps = [twin.step(cell, int(a), False) for a in actions]
                value[cell] = max(r + value[c] for c, r, _ in steps)
        assert value[1:].mean() == pytest.approx(best)


def test_expected_return_is_that_of_episodes():
    environment = LargeActionGrid(4, 6, 1, 3, time_limit=10, batch_size=4000)
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(54, 0.3), 16)
    table = tf.constant(np.log(probabilities + 1e-9), tf.float32)
    carry = environment.start()
    total, alive = np.zeros(4000), np.ones(4000)

    @tf.function
    def step(carry, seed):
        logits = tf.gather(table, carry["state"]["cell"])
        action = tf.random.stateless_categorical(logits, 1, [7, seed])[:, 0]
        return environment.advance(carry, action)

    for number in tf.range(10):
        carry = step(carry, number)
        total += alive * carry["reward"].numpy()
        alive *= carry["step_type"].numpy() != ts.StepType.LAST
    assert not alive.any()
    error = total.std() / np.sqrt(4000)
    expected = environment.expected_return(probabilities)
    assert abs(total.mean() - expected) < 4 * error


def test_starts_are_everywhere_but_at_the_goal():
    environment = LargeActionGrid(3, batch_size=900)
    cells = environment.reset().observation.numpy()
    counts = np.bincount(cells, minlength=9)
    assert counts[0] == 0 and counts[1:].min() > 70
    assert environment.render().shape[0] == 900


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"size": 1}, "`size`"),
        ({"num_ways": 67}, "must leave one"),
        ({"num_fast": -1}, "`num_fast`"),
        ({"step_cost": -0.1}, "`step_cost`"),
        ({"time_limit": 0}, "`time_limit`"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        LargeActionGrid(**arguments)
