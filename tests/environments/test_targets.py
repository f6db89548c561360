"""Rooms with targets against plain NumPy ones written from their rules."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.environments import GoToTarget
from keras_sparse_rl.environments import WalkToTarget

TASKS = {
    "GoToTarget": lambda **k: GoToTarget(5, 3, 2, time_limit=12, **k),
    "WalkToTarget": lambda **k: WalkToTarget(time_limit=12, **k),
}
each_task = pytest.mark.parametrize("task", TASKS)


def played(environment, steps=60, seed=0):
    """Time steps, states and actions of a random player."""
    generator = np.random.default_rng(seed)
    step, time_step, record = (
        tf.function(environment.step),
        tf.nest.map_structure(lambda x: x.numpy(), environment.reset()),
        [],
    )
    spec = environment.action_spec()
    for _ in range(steps):
        shape = (environment.batch_size, *spec.shape)
        if spec.dtype.is_integer:
            action = generator.integers(0, 4, shape).astype(np.int32)
        else:
            action = generator.uniform(-1.3, 1.3, shape).astype(np.float32)
        state = {k: v.numpy() for k, v in environment.carry["state"].items()}
        following = step(action)
        following = tf.nest.map_structure(lambda x: x.numpy(), following)
        record.append((time_step, state, action, following))
        time_step = following
    return record


def flat(time_step):
    return np.concatenate(
        [np.ravel(x) for x in tf.nest.flatten(time_step.observation)]
    )


@each_task
def test_seeds_decide_and_episodes_follow_each_other(task):
    first, again, other = (
        played(TASKS[task](batch_size=4, seed=seed)) for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(flat(a[3]), flat(b[3]))
    assert any((flat(a[3]) != flat(b[3])).any() for a, b in zip(first, other))
    cut = 0
    for before, _, _, after in first:
        ended = before.step_type == ts.StepType.LAST
        started = after.step_type == ts.StepType.FIRST
        np.testing.assert_array_equal(ended, started)
        np.testing.assert_array_equal(after.reward[started], 0)
        cut += int(np.sum(after.is_last() & (after.discount > 0)))
    assert cut > 3


@each_task
def test_the_pure_form_is_the_same(task):
    environment = TASKS[task](batch_size=2)
    environment.reset()
    carry = tf.nest.map_structure(tf.convert_to_tensor, environment.carry)
    spec = environment.action_spec()
    action = tf.zeros((2, *spec.shape), spec.dtype)
    for _ in range(3):
        carry = environment.advance(carry, action)
        expected = environment.step(action)
        for a, b in zip(
            tf.nest.flatten(environment.time_step(carry)),
            tf.nest.flatten(expected),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)


@each_task
def test_pictures(task):
    environment = TASKS[task](batch_size=2)
    environment.reset()
    pictures = environment.render()
    assert pictures.shape[0] == 2 and pictures.dtype == np.uint8
    assert len(np.unique(pictures.reshape(-1, 3), axis=0)) == 4


def test_go_to_target_by_its_rules():
    free = np.array(
        [list(row) for row in ("..#..", ".....", "#.#.#", ".....", "..#..")]
    )
    place = np.argwhere(free == ".")
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    environment = TASKS["GoToTarget"](batch_size=3, seed=3)
    np.testing.assert_array_equal(environment.place, place)
    number = {tuple(p): i for i, p in enumerate(place)}
    reached = 0
    for before, state, action, after in played(environment, 120):
        for row in range(3):
            cell, target = state["cell"][row], state["target"][row]
            assert target in environment.targets
            if before.is_last()[row]:
                continue
            if before.is_first()[row]:
                assert cell != target
                now = before.observation["previous_action"][row]
                np.testing.assert_array_equal(now, 0)
            where = [
                number.get(tuple(place[cell] + np.array(move)), None)
                for move in moves
            ]
            np.testing.assert_array_equal(
                before.observation["walls"][row], [w is None for w in where]
            )
            new = where[action[row]]
            new = cell if new is None else new
            found = {k: v[row] for k, v in after.observation.items()}
            assert found["position"] == new and found["target"] == target
            assert found["previous_action"].argmax() == action[row]
            assert float(after.reward[row]) == float(new == target)
            limit = state["time"][row] + 1 >= 12
            assert bool(after.is_last()[row]) == (new == target or limit)
            assert float(after.discount[row]) == float(new != target)
            reached += new == target
    assert reached > 3


def test_held_out_targets_are_others():
    known = GoToTarget(layout_seed=4)
    new = GoToTarget(layout_seed=4, held_out=True)
    other = GoToTarget(layout_seed=5)
    assert len(known.targets) == 8 and len(new.targets) == 4
    assert not set(known.targets) & set(new.targets)
    assert set(known.targets) != set(other.targets)
    assert len(known.place) == 104  # 11 x 11 without 17 walls


def test_slips_are_random_moves():
    environment = GoToTarget(slip=0.5, batch_size=2000)
    state = environment.carry["state"]
    middle = np.flatnonzero((environment.place == 2).all(1))[0]
    state = {
        **{k: v.value() for k, v in state.items()},
        "cell": tf.fill((2000,), int(middle)),
    }
    carry = {**environment.start(), "state": state}
    carry = environment.advance(carry, np.zeros(2000, np.int32))
    up = environment.next_cell[middle, 0]
    share = np.mean(carry["state"]["cell"].numpy() == up)
    assert share == pytest.approx(0.5 + 0.125, abs=0.04)


def walk(state, action, row):
    """One step of one body, from the class's description."""
    action = np.clip(action, -1, 1).astype(float)
    legs = np.clip(state["legs"][row] + 0.5 * action[:2], -1, 1)
    swing = legs - state["legs"][row]
    push = -swing * (1 + action[2:]) / 2
    heading = state["heading"][row] + 0.4 * (push[1] - push[0])
    place, stopped = state["place"][row].astype(float).copy(), [0, 0]
    step = 0.2 * push.sum() * np.array([np.cos(heading), np.sin(heading)])
    for axis in (0, 1):
        new = place[axis] + step[axis]
        crosses = (place[axis] < 2) != (new < 2)
        at_door = abs(place[1 - axis] % 2 - 1) < 0.6
        if not 0 <= new <= 4 or (crosses and not at_door):
            stopped[axis] = 1
        else:
            place[axis] = new
    return legs, swing, heading, place, stopped


def test_walk_to_target_by_its_rules():
    environment = WalkToTarget(
        progress_reward=0.5, time_limit=40, batch_size=10, seed=1
    )
    walls = 0
    for before, state, action, after in played(environment, 120):
        for row in range(10):
            if before.is_last()[row]:
                continue
            legs, swing, heading, place, stopped = walk(state, action[row], row)
            target = state["target"][row]
            way = target - place
            turn = np.array([np.cos(heading), np.sin(heading)])
            found = {k: v[row] for k, v in after.observation.items()}
            np.testing.assert_allclose(
                found["proprioception"], [*legs, *swing, *stopped], atol=1e-5
            )
            np.testing.assert_allclose(
                found["position"], [*place, *turn], atol=1e-5
            )
            expected = [
                turn @ way,
                turn[0] * way[1] - turn[1] * way[0],
                np.linalg.norm(way),
            ]
            np.testing.assert_allclose(found["target"], expected, atol=1e-5)
            reached = np.linalg.norm(way) < 0.4
            gained = np.linalg.norm(target - state["place"][row])
            gained -= np.linalg.norm(way)
            assert float(after.reward[row]) == pytest.approx(
                reached + 0.5 * gained, abs=1e-5
            )
            assert float(after.discount[row]) == float(not reached)
            walls += sum(stopped)
    assert walls > 1


def test_legs_that_walk_get_there():
    environment = WalkToTarget(batch_size=40, seed=2)
    time_step, back = environment.reset(), np.ones((40, 2), bool)
    step, returns = tf.function(environment.step), []
    for _ in range(300):
        seen = {k: v.numpy() for k, v in time_step.observation.items()}
        legs = seen["proprioception"][:, :2]
        back = np.where(
            legs <= -0.95, False, np.where(legs >= 0.95, True, back)
        )
        angle = np.arctan2(seen["target"][:, 1], seen["target"][:, 0])
        press = np.where(back, 1.0, -1.0)
        press[:, 0] = np.where(angle > 0.2, -1, press[:, 0])
        press[:, 1] = np.where(angle < -0.2, -1, press[:, 1])
        action = np.concatenate([np.where(back, -1.0, 1.0), press], axis=1)
        time_step = step(action.astype("float32"))
        returns += time_step.reward.numpy()[time_step.is_last()].tolist()
    assert len(returns) > 100 and np.mean(returns) > 0.8
    other = WalkToTarget(held_out=True).targets
    assert not {tuple(t) for t in other} & {
        tuple(t) for t in environment.targets
    }


def test_mistakes():
    for make, words in (
        (lambda: GoToTarget(size=6), "`size` must be odd"),
        (lambda: GoToTarget(size=5, num_targets=30), "`num_targets`"),
        (lambda: GoToTarget(num_held_out=0, held_out=True), "`num_held_out`"),
        (lambda: GoToTarget(held_out=1), "`held_out`"),
        (lambda: GoToTarget(slip=1.0), "`slip`"),
        (lambda: WalkToTarget(held_out="yes"), "`held_out`"),
        (lambda: WalkToTarget(progress_reward=-1.0), "`progress_reward`"),
        (lambda: WalkToTarget(time_limit=0), "`time_limit`"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
