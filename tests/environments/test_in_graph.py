"""The in-graph tasks against plain Python ones written from their rules."""

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies.random_tf_policy import RandomTFPolicy
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.agents import evaluate
from keras_sparse_rl.environments import BernoulliBandit
from keras_sparse_rl.environments import CartPole
from keras_sparse_rl.environments import LargeActionGrid
from keras_sparse_rl.environments import Numpad
from keras_sparse_rl.environments import RandomGridWorld
from keras_sparse_rl.environments import RepeatPrevious
from keras_sparse_rl.environments import TMaze

TASKS = {
    "TMaze": lambda **k: TMaze(length=3, **k),
    "RepeatPrevious": RepeatPrevious,
    "Numpad": Numpad,
    "CartPole": CartPole,
    "LargeActionGrid": LargeActionGrid,
    "RandomGridWorld": lambda **k: RandomGridWorld(size=6, **k),
}
each_task = pytest.mark.parametrize("task", TASKS)


def played(environment, steps=150, seed=0):
    """Time steps and actions of a random player, and states before each."""
    generator = np.random.default_rng(seed)
    time_step, record = environment.reset(), []
    step = tf.function(environment.step)
    for _ in range(steps):
        action = generator.integers(
            0, environment.action_spec().maximum + 1, environment.batch_size
        ).astype(np.int32)
        state = {k: v.numpy() for k, v in environment.carry["state"].items()}
        following = step(action)
        record.append((time_step, state, action, following))
        time_step = following
    return record


@each_task
def test_episodes_follow_each_other(task):
    lasts = 0
    for before, _, _, after in played(TASKS[task](batch_size=4, seed=3)):
        ended = before.step_type == ts.StepType.LAST
        started = after.step_type == ts.StepType.FIRST
        np.testing.assert_array_equal(ended, started)
        np.testing.assert_array_equal(after.reward.numpy()[started], 0)
        np.testing.assert_array_equal(after.discount.numpy()[started], 1)
        lasts += int(tf.reduce_sum(tf.cast(ended, tf.int32)))
    assert lasts > 0


@each_task
def test_seeds_decide_and_a_reset_starts_other_episodes(task):
    def observations(environment):
        return [
            np.ravel(after.observation) for *_, after in played(environment, 40)
        ]

    first, again, other = (
        TASKS[task](batch_size=8, seed=seed) for seed in (1, 1, 2)
    )
    expected = observations(first)
    np.testing.assert_array_equal(observations(again), expected)
    assert (np.array(observations(other)) != expected).any()
    assert (np.array(observations(first)) != expected).any()


@each_task
def test_the_pure_form_is_the_same(task):
    environment = TASKS[task](batch_size=2, seed=0)
    environment.reset()
    carry = tf.nest.map_structure(tf.convert_to_tensor, environment.carry)
    advance = tf.function(environment.advance)
    for _ in range(8):
        action = np.array([1, 0], np.int32)
        carry = advance(carry, action)
        expected = tf.nest.flatten(environment.step(action))
        found = tf.nest.flatten(environment.time_step(carry))
        for a, b in zip(found, expected, strict=True):
            # Graphs and eager operations may round differently.
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_t_maze_by_its_rules():
    length, penalty = 3, 0.25
    environment = TMaze(length, batch_size=5, seed=0, penalty=penalty)
    position, sign, time = np.zeros(5, int), None, np.zeros(5, int)
    seen = 0
    for before, _, action, after in played(environment):
        first = before.step_type.numpy() == ts.StepType.FIRST
        position[first], time[first] = 0, 0
        now = before.observation.numpy()
        np.testing.assert_array_equal(now[:, :2].sum(1), first)
        sign = np.where(first, now[:, 1], 0 if sign is None else sign)
        for row in range(5):
            if before.step_type[row] == ts.StepType.LAST:
                continue
            time[row] += 1
            reward, ended = 0.0, False
            if position[row] < length:
                if action[row] == 0:
                    position[row] += 1
                else:
                    reward = -penalty
            elif action[row] == 0:
                reward = -penalty
            else:
                ended = True
                reward = 1.0 if action[row] == 1 + sign[row] else -1.0
            assert float(after.reward[row]) == pytest.approx(reward)
            limit = time[row] >= 10 * (length + 1)
            assert bool(after.is_last()[row]) == (ended or limit)
            assert float(after.discount[row]) == (0.0 if ended else 1.0)
            seen += ended
    assert seen > 20


def test_t_maze_is_cut_off_not_terminated():
    environment = TMaze(length=1, batch_size=1)
    environment.reset()
    for _ in range(20):
        time_step = environment.step([1 if _ == 0 else 0])
    assert bool(time_step.is_last()) and float(time_step.discount[0]) == 1.0


def test_cart_pole_is_that_of_gymnasium():
    environment = CartPole(batch_size=1, seed=0)
    expected = gymnasium.make("CartPole-v1").unwrapped
    expected.reset(seed=0)
    ends = 0
    for before, state, action, after in played(environment, 200):
        if bool(before.is_last()):
            assert np.abs(after.observation).max() <= 0.05
            continue
        expected.state = state["body"][0].astype("float64")
        expected.steps_beyond_terminated = None
        observation, reward, fallen, *_ = expected.step(int(action[0]))
        np.testing.assert_allclose(after.observation[0], observation, atol=1e-6)
        assert float(after.reward[0]) == reward
        assert bool(after.is_last()) == fallen
        assert float(after.discount[0]) == 1 - fallen
        ends += fallen
    assert ends > 3
    hidden = CartPole(False, batch_size=1, seed=0).reset().observation
    shown = CartPole(batch_size=1, seed=0).reset().observation
    np.testing.assert_array_equal(hidden, shown[:, ::2])
    pictures = environment.render()
    assert pictures.shape == (1, 60, 100, 3) and len(np.unique(pictures)) > 3


def test_cart_pole_is_cut_off_after_500_steps():
    environment = CartPole(batch_size=1)
    start = environment.start()
    balanced = {"body": tf.zeros((1, 4)), "time": tf.constant([498])}
    carry = environment.advance({**start, "state": balanced}, [0])
    assert int(carry["step_type"][0]) == ts.StepType.MID
    carry = environment.advance(carry, [1])
    assert int(carry["step_type"][0]) == ts.StepType.LAST
    assert float(carry["discount"][0]) == 1.0


def test_repeat_previous_by_its_rules():
    delay, suits, total, steps = 3, [], 0.0, 0
    for before, _, action, after in played(RepeatPrevious(delay), 104):
        if bool(before.is_last()):
            assert steps == 51
            assert sorted(suits) == sorted([0, 1, 2, 3] * 13)
            suits, steps = [], 0
            continue
        if bool(before.is_first()):
            suits = [int(before.observation[0])]
        reward = 0.0
        if steps >= delay:
            right = action[0] == suits[-1 - delay]
            reward = (1 if right else -1) / 48
        assert float(after.reward[0]) == pytest.approx(reward)
        suits.append(int(after.observation[0]))
        steps += 1
        total += reward
    assert total != 0


def test_numpad_by_its_rules():
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    environment = Numpad(size=3, sequence_length=4, batch_size=3, seed=1)
    lit = [0, 0, 0]
    lights_seen = 0
    for before, state, action, after in played(environment, 400):
        for row in range(3):
            if bool(before.is_last()[row]):
                lit[row] = 0
                continue
            sequence, pad = state["sequence"][row], int(state["pad"][row])
            assert len(set(sequence)) == 4
            for a, b in zip(sequence, sequence[1:]):
                assert abs(a // 3 - b // 3) + abs(a % 3 - b % 3) == 1
            now = before.observation[row].numpy()
            assert now[:9].argmax() == pad
            assert set(np.flatnonzero(now[9:])) == set(sequence[: lit[row]])
            lights_seen += lit[row]
            down, right = moves[action[row]]
            place = (pad // 3 + down, pad % 3 + right)
            reward = 0
            if 0 <= min(place) and max(place) < 3:
                pressed = 3 * place[0] + place[1]
                if pressed == sequence[lit[row]]:
                    lit[row], reward = lit[row] + 1, 1
                else:
                    new = 1 if pressed == sequence[0] else 0
                    lit[row], reward = new, new - lit[row]
                lit[row] %= 4
            assert float(after.reward[row]) == reward
    assert lights_seen > 20


def test_random_grid_world_by_its_tables():
    environment = RandomGridWorld(
        size=5, slip=0.0, end_probability=0.0, num_worlds=2, batch_size=6
    )
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    ends = 0
    pictures = environment.render()
    assert pictures.shape == (6, 40, 40, 3) and pictures.dtype == np.uint8
    for before, state, action, after in played(environment):
        for row in range(6):
            world, cell = row % 2, int(state["cell"][row])
            assert int(before.observation[row]) == 25 * world + cell
            if bool(before.is_last()[row]):
                continue
            down, right = moves[action[row]]
            target = (cell // 5 + down, cell % 5 + right)
            if not (0 <= min(target) and max(target) < 5):
                target = (cell // 5, cell % 5)
            moved = 5 * target[0] + target[1]
            if environment._cells[world].ravel()[moved] == 1:
                moved = cell
            if not bool(after.is_last()[row]):
                assert int(after.observation[row]) == 25 * world + moved
            kind = environment._cells[world].ravel()[moved]
            reward = {2: 1.0, 3: -1.0}.get(kind, 0.0)
            assert float(after.reward[row]) == reward
            assert bool(after.is_last()[row]) == (kind in (2, 3))
            ends += kind in (2, 3)
    assert ends > 5


def test_random_grid_world_slips_and_ends_as_often_as_it_says():
    environment = RandomGridWorld(
        size=5,
        walls=0.0,
        num_pits=0,
        slip=0.4,
        end_probability=0.2,
        batch_size=500,
    )
    inner = [6, 7, 8, 11, 12, 13, 16, 17, 18]  # no border stops a move here
    slips, ends = [], []
    for before, state, action, after in played(environment, 40):
        going = before.step_type.numpy() != ts.StepType.LAST
        last = after.step_type.numpy() == ts.StepType.LAST
        ends.extend(last[going & (after.reward.numpy() == 0)])
        asked = environment.next_cell[0, state["cell"], action]
        seen = going & ~last & np.isin(state["cell"], inner)
        slips.extend((after.observation.numpy() != asked)[seen])
    # One slip of four goes the way that was asked for.
    assert np.mean(slips) == pytest.approx(0.3, abs=0.03)
    assert np.mean(ends) == pytest.approx(0.2, abs=0.02)


def test_local_view_shows_what_is_around():
    environment = RandomGridWorld(size=5, view=3, batch_size=1, seed=2)
    view = environment.reset().observation[0].numpy()
    around = environment._cells[0][1:4, 1:4]
    for kind in (1, 2, 3):
        np.testing.assert_array_equal(view[..., kind - 1], around == kind)


def test_documented_returns_of_random_players():
    for environment, expected, tolerance in (
        (TMaze(10, batch_size=200), -2.05, 0.15),
        (RepeatPrevious(batch_size=100), -0.5, 0.03),
        (Numpad(batch_size=200), 6.6, 0.6),
        (CartPole(batch_size=200), 22.3, 1.5),
    ):
        policy = RandomTFPolicy(
            environment.time_step_spec(), environment.action_spec()
        )
        found = evaluate(policy, environment, 400)
        assert found.mean == pytest.approx(expected, abs=tolerance)
        assert found.low < found.mean < found.high


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: TMaze(0), "length"),
        (lambda: TMaze(penalty=-1), "penalty"),
        (lambda: TMaze(batch_size=0), "batch_size"),
        (lambda: TMaze(seed=0.5), "seed"),
        (lambda: RepeatPrevious(51), "delay"),
        (lambda: Numpad(1), "size"),
        (lambda: CartPole("no"), "velocities"),
        (lambda: Numpad(2, sequence_length=5), "sequence_length"),
        (lambda: RandomGridWorld(walls=1.0), "walls"),
        (lambda: RandomGridWorld(view=4), "view"),
        (lambda: RandomGridWorld(size=3, num_goals=9), "num_goals"),
        (lambda: RandomGridWorld(num_actions=3), "num_actions"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()


def test_bernoulli_bandits():
    bandit = BernoulliBandit(3, pulls=50, batch_size=4000, alpha=2, beta=3)
    carry = bandit.start()
    arms = carry["state"]["probability"].numpy()
    # Mean and deviation of Beta(2, 3), of independent arms.
    np.testing.assert_allclose(arms.mean(0), 0.4, atol=0.01)
    np.testing.assert_allclose(np.cov(arms.T), 0.04 * np.eye(3), atol=2e-3)
    advance = tf.function(bandit.advance)
    paid = np.zeros(4000)
    for left in range(50, 0, -1):
        seen = bandit.time_step(carry).observation.numpy()
        np.testing.assert_allclose(seen, left / 50, rtol=1e-6)
        carry = advance(carry, tf.ones((4000,), tf.int32))
        paid += carry["reward"].numpy()
    assert (carry["step_type"].numpy() == ts.StepType.LAST).all()
    score = (paid - 50 * arms[:, 1]) / np.sqrt(50 * arms[:, 1] + 1)
    assert abs(score.mean()) < 0.05 and 0.5 < score.std() < 1
    assert bandit.best_return == pytest.approx(50 * arms.max(1).mean(), 0.01)
    again = advance(carry, tf.ones((4000,), tf.int32))
    assert (again["state"]["probability"].numpy() != arms).all()
    for seed, same in ((0, True), (1, False)):
        other = BernoulliBandit(3, 50, 4000, seed, alpha=2, beta=3).start()
        equal = other["state"]["probability"].numpy() == arms
        assert equal.all() == equal.any() == same


def test_what_can_be_earned_of_a_bandit():
    bandit = BernoulliBandit(pulls=10)
    assert bandit.optimal_return == pytest.approx(6.0218, abs=1e-4)
    with pytest.raises(ValueError, match="horizon=500.*at most 122"):
        BernoulliBandit(pulls=500).optimal_return  # noqa: B018
    with pytest.raises(ValueError, match="`alpha`.*0.5"):
        BernoulliBandit(alpha=0.5)
