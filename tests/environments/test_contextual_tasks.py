"""Tasks whose contexts come back, against plain Python from their rules."""

import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.environments import BarcodeBandit
from keras_sparse_rl.environments import CompositionalBandit
from keras_sparse_rl.environments import OmniglotBandit
from keras_sparse_rl.environments import TwoStep
from keras_sparse_rl.environments import WaterMaze
from keras_sparse_rl.environments import WithPreviousActionAndReward
from keras_sparse_rl.environments import load_omniglot

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]
TASKS = {
    "BarcodeBandit": lambda **k: BarcodeBandit(3, 4, 2, 3, 4, **k),
    "CompositionalBandit": lambda **k: CompositionalBandit(2, 2, 2, 3, 3, **k),
    "WaterMaze": lambda **k: WaterMaze(3, 3, 2, 5, 4, **k),
    "TwoStep": lambda **k: TwoStep(6, 3, **k),
}
each_task = pytest.mark.parametrize("task", TASKS)


def played(environment, steps, seed=0):
    """Time steps before and after, states before and after, actions."""
    generator = np.random.default_rng(seed)
    advance = tf.function(environment.advance)
    observe = tf.function(environment.time_step)
    carry, record = environment.start(), []
    before = tf.nest.map_structure(np.array, observe(carry))
    for _ in range(steps):
        action = generator.integers(
            0, environment.action_spec().maximum + 1, environment.batch_size
        ).astype(np.int32)
        state = tf.nest.map_structure(lambda x: x.numpy(), carry["state"])
        carry = advance(carry, action)
        after = tf.nest.map_structure(np.array, observe(carry))
        record.append((before, state, action, after))
        before = after
    return record


@each_task
def test_pure_form_seeds_and_pictures(task):
    environment = TASKS[task](batch_size=2, seed=3)
    again, other = (TASKS[task](batch_size=2, seed=s) for s in (3, 4))
    environment.reset()
    carry = tf.nest.map_structure(tf.convert_to_tensor, environment.carry)
    for _ in range(8):
        action = np.array([1, 0], np.int32)
        carry = environment.advance(carry, action)
        expected = tf.nest.flatten(environment.step(action))
        found = tf.nest.flatten(environment.time_step(carry))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    pictures = environment.render()
    assert pictures.shape[0] == 2 and pictures.dtype == np.uint8
    assert len(np.unique(pictures)) > 3
    barcodes = "barcodes" if task == "TwoStep" else "contexts"
    first, same, different = (
        e.start()["state"][barcodes].numpy()
        for e in (TASKS[task](batch_size=2, seed=3), again, other)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != different).any()


@pytest.mark.parametrize("task", [name for name in TASKS if name != "TwoStep"])
def test_tasks_are_bags_of_contexts(task):
    environment = TASKS[task](batch_size=3, seed=1)
    length = environment.steps + 1
    exposure = tf.function(environment.exposure)
    record = played(environment, 2 * environment.episodes * length)
    per_task = environment.episodes * length
    for row in range(3):
        contexts = np.array(
            [before.observation["context"][row] for before, *_ in record]
        )
        starts = np.array(
            [before.observation["is_task_start"][row] for before, *_ in record]
        )
        np.testing.assert_array_equal(np.flatnonzero(starts), [0, per_task])
        for begin in (0, per_task):
            episodes = contexts[begin : begin + per_task].reshape(
                environment.episodes, length, -1
            )
            np.testing.assert_array_equal(
                episodes, np.repeat(episodes[:, :1], length, 1)
            )
            kinds, counts = np.unique(
                episodes[:, 0], axis=0, return_counts=True
            )
            assert len(kinds) == environment.num_contexts
            np.testing.assert_array_equal(counts, environment.exposures)
            assert kinds.any(1).all()  # none is all 0
        assert (contexts[:per_task] != contexts[per_task:]).any()
    for number, (before, state, _, after) in enumerate(record):
        if number % length == 0:
            assert before.is_first().all()
        assert after.is_last().all() == (
            number % length == environment.steps - 1
        )
        np.testing.assert_array_equal(after.discount, 1.0 - after.is_last())
        found = np.array(exposure(state))
        for row in range(3):
            now = state["episode"][row]
            order = state["order"][row]
            assert found[row] == (order[:now] == order[now]).sum()
            if number % length == environment.steps:
                assert after.reward[row] == 0


def test_barcode_bandit_pays_by_the_arm():
    environment = BarcodeBandit(5, 6, 3, 4, batch_size=50, seed=2)
    rewards = {True: [], False: []}
    for before, state, action, after in played(environment, 90):
        if before.is_last()[0]:
            continue
        number = state["order"][np.arange(50), state["episode"]]
        good = state["targets"][np.arange(50), number]
        for arm, best, reward in zip(action, good, after.reward):
            rewards[arm == best].append(reward)
        # Every arm is the good one of at least one barcode.
        for targets in state["targets"]:
            assert set(targets) == set(range(5))
    assert np.mean(rewards[True]) == pytest.approx(0.9, abs=0.03)
    assert np.mean(rewards[False]) == pytest.approx(0.1, abs=0.02)
    assert environment.best_return == 3.6
    # With few contexts there is no such promise, and all arms can be good.
    few = BarcodeBandit(8, 2, batch_size=400).start()["state"]["targets"]
    assert set(np.ravel(few)) == set(range(8))


def test_compositional_contexts_mean_what_their_parts_mean():
    environment = CompositionalBandit(3, 4, batch_size=6, seed=5)
    state = environment.start()["state"]
    for contexts, targets in zip(state["contexts"], state["targets"]):
        assert sorted(targets.numpy()) == list(range(12))
        rows, columns = {}, {}
        for context, target in zip(contexts.numpy(), targets.numpy()):
            row, column = divmod(target, 4)
            assert rows.setdefault(tuple(context[:5]), row) == row
            assert columns.setdefault(tuple(context[5:]), column) == column
        assert len(rows) == 3 and len(columns) == 4


def test_water_maze_by_its_rules():
    grid = 3
    environment = WaterMaze(grid, 4, 3, 6, batch_size=4, seed=1)
    found = 0
    for before, state, action, after in played(environment, 200):
        for row in range(4):
            if bool(before.is_last()[row]):
                continue
            number = state["order"][row, state["episode"][row]]
            target = state["targets"][row, number]
            place = int(state["position"][row])
            assert before.observation["position"][row].argmax() == place
            assert place != target
            down, right = MOVES[action[row]]
            there = (place // grid + down, place % grid + right)
            if not (0 <= min(there) and max(there) < grid):
                there = divmod(place, grid)
            moved = there[0] * grid + there[1]
            now = after.observation["position"][row].argmax()
            assert float(after.reward[row]) == (moved == target)
            if moved == target:
                assert now != target
                found += 1
            else:
                assert now == moved
    assert found > 20


def test_best_return_of_the_water_maze():
    """A player who walks straight to the platform, in plain Python."""
    grid, steps, generator = 4, 20, np.random.default_rng(0)
    returns = []
    for _ in range(3000):
        goal = generator.integers(grid**2)
        time, total = 0, 0
        while True:
            start = generator.choice(np.delete(np.arange(grid**2), goal))
            away = np.abs(np.subtract(divmod(start, grid), divmod(goal, grid)))
            time += away.sum()
            if time > steps:
                break
            total += 1
        returns.append(total)
    expected = WaterMaze(grid, steps=steps).best_return
    margin = 4 * np.std(returns) / np.sqrt(len(returns))
    assert np.mean(returns) == pytest.approx(expected, abs=margin)


def test_two_step_by_its_rules():
    trials, half = 12, 6
    environment = TwoStep(trials, 4, batch_size=40, seed=0)
    common, rewarded, switched, cued = [], [], [], 0
    outcome_of, reward_of = {}, {}
    for before, state, action, after in played(
        environment, 3 * (2 * trials + 1)
    ):
        for row in range(40):
            trial, stage = state["trial"][row], state["stage"][row]
            seen = {k: v[row] for k, v in before.observation.items()}
            if bool(before.is_last()[row]):
                assert trial == trials and not seen["context"].any()
                outcome_of.pop(row), reward_of.pop(row)
                continue
            assert seen["stage"].argmax() == stage
            assert seen["is_task_start"] == bool(before.is_first()[row])
            assert seen["write"] == (stage > 0 and trial < half)
            if trial < half and stage == 0:
                assert not seen["context"].any()
            elif trial < half:
                np.testing.assert_array_equal(
                    seen["context"], state["barcodes"][row, trial]
                )
            if stage:
                assert float(after.reward[row]) == 0
                continue
            then = after.observation["stage"][row].argmax() - 1
            reward = float(after.reward[row])
            common.append(then == action[row])
            outcomes = outcome_of.setdefault(row, [])
            rewards = reward_of.setdefault(row, [])
            if trial < half:
                rewarded.append(reward == (then == state["better"][row]))
            else:
                (old,) = np.flatnonzero(
                    (state["barcodes"][row] == seen["context"]).all(1)
                )
                assert reward == (
                    rewards[old] if then == outcomes[old] else 1 - rewards[old]
                )
                assert state["cued"][row, trial - half] == old
                cued += 1
            outcomes.append(then)
            rewards.append(reward)
    assert np.mean(common) == pytest.approx(0.9, abs=0.03)
    assert np.mean(rewarded) == pytest.approx(0.9, abs=0.04)
    assert cued == 3 * 40 * half
    # Each uncued trial comes back once.
    for order in environment.start()["state"]["cued"].numpy():
        assert sorted(order) == list(range(half))
    for _, state, _, after in played(environment, 24, seed=1):
        if state["stage"][0] and not after.is_last()[0]:
            switched.append(state["better"])
    changes = np.diff(np.array(switched), axis=0) != 0
    assert changes.mean() == pytest.approx(0.1, abs=0.05)


def test_tasks_live_on_behind_previous_action_and_reward():
    task = BarcodeBandit(3, 3, 2, 2, batch_size=1)
    wrapped = WithPreviousActionAndReward(task)
    record = played(wrapped, 3 * 6 * 3)
    starts = [
        float(before.observation["observation"]["is_task_start"])
        for before, *_ in record
    ]
    np.testing.assert_array_equal(np.flatnonzero(starts), [0, 18, 36])
    for before, *_ in record:
        if bool(before.is_first()):
            assert not before.observation["previous_action"].any()


def write_png(path, ink):
    """A white picture with black rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 20, 1), 255, np.uint8)
    pixels[:ink] = 0
    path.write_bytes(tf.io.encode_png(pixels).numpy())


@pytest.fixture(params=["folders", "zip"])
def omniglot(request, tmp_path):
    """Six characters of two alphabets, three drawings each."""
    for alphabet in range(2):
        for character in range(3):
            for drawing in range(3):
                folder = tmp_path / f"alphabet{alphabet}"
                write_png(
                    folder / f"character0{character}" / f"00_{drawing}.png",
                    10 * alphabet + 3 * character + drawing,
                )
    if request.param == "zip":
        archive = tmp_path / "archive" / "images.zip"
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as file:
            for path in tmp_path.rglob("*.png"):
                file.write(path, f"images/{path.relative_to(tmp_path)}")
        return archive.parent
    return tmp_path


def test_omniglot_images(omniglot):
    images = load_omniglot(omniglot, size=20)
    assert images.shape == (6, 3, 20, 20) and images.dtype == np.uint8
    ink = (images == 255).sum((2, 3)) // 20
    expected = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [10, 11, 12]]
    np.testing.assert_array_equal(ink[:4], expected)
    assert set(np.unique(images)) == {0, 255}
    assert load_omniglot(omniglot, size=5).shape == (6, 3, 5, 5)


def test_omniglot_bandit_shows_its_character(omniglot):
    environment = OmniglotBandit(
        omniglot, 2, 3, 2, 2, 20, characters=[1, 2, 4, 5], batch_size=8
    )
    drawings = set()
    for before, state, _, _ in played(environment, 19):
        number = state["order"][np.arange(8), np.minimum(state["episode"], 5)]
        character = state["contexts"][np.arange(8), number]
        ink = before.observation["context"].mean((1, 2, 3)) * 20
        for seen, kind in zip(ink.round().astype(int), character):
            assert kind in (1, 2, 4, 5)
            drawings.add((kind, seen - 10 * (kind // 3) - 3 * (kind % 3)))
    assert drawings == {(kind, d) for kind in (1, 2, 4, 5) for d in range(3)}
    same = OmniglotBandit(omniglot, 2, 3, size=20, same_drawing=True)
    assert int(same.start()["state"]["drawing"][0]) == 0
    assert same.render().shape == (1, 40, 40, 3)


@pytest.mark.parametrize("task", [*TASKS, "OmniglotBandit"])
def test_xla_compiles_steps(task, tmp_path):
    for character in range(3):
        write_png(tmp_path / f"a/character{character}/0_0.png", character)
    tasks = {
        **TASKS,
        "OmniglotBandit": lambda **k: OmniglotBandit(
            tmp_path, 2, 3, 2, 2, 20, **k
        ),
    }
    environment = tasks[task](batch_size=2)
    carry, action = environment.start(), tf.zeros((2,), tf.int32)
    for _ in range(3):
        carry = environment.advance(carry, action)
    seen = tf.function(environment.time_step, jit_compile=True)(carry)
    tf.nest.map_structure(
        np.testing.assert_array_equal, seen, environment.time_step(carry)
    )
    # XLA draws other numbers.
    after = tf.function(environment.advance, jit_compile=True)(carry, action)
    tf.nest.map_structure(
        lambda a, b: tf.debugging.assert_shapes([(a, b.shape)]), after, carry
    )


def test_wrong_omniglot_folders_are_answered(tmp_path, omniglot):
    with pytest.raises(ValueError, match="`folder`.*is no folder that exists"):
        OmniglotBandit(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "photo.png").write_bytes(b"")
    with pytest.raises(ValueError, match="`folder`.*has no such images"):
        load_omniglot(tmp_path / "empty")
    with pytest.raises(ValueError, match="`num_contexts`.*6"):
        OmniglotBandit(omniglot, num_contexts=7)
    with pytest.raises(ValueError, match="`characters`.*0 to 5"):
        OmniglotBandit(omniglot, num_contexts=2, characters=[0, 6])


@pytest.mark.skipif(
    "OMNIGLOT" not in os.environ, reason="OMNIGLOT names no folder of images"
)
def test_the_real_omniglot():
    images = load_omniglot(os.environ["OMNIGLOT"])
    assert images.shape == (292, 20, 28, 28)
    assert 0.03 < (images > 127).mean() < 0.3


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: BarcodeBandit(num_arms=1), "num_arms"),
        (lambda: BarcodeBandit(num_contexts=0), "num_contexts"),
        (lambda: BarcodeBandit(exposures=0), "exposures"),
        (lambda: BarcodeBandit(pulls=0), "pulls"),
        (lambda: BarcodeBandit(good=1.5), "good"),
        (lambda: BarcodeBandit(barcode_length=3), "barcode_length"),
        (lambda: BarcodeBandit(barcode_length=17), "barcode_length"),
        (lambda: BarcodeBandit(batch_size=0), "batch_size"),
        (lambda: CompositionalBandit(1), "num_rows"),
        (lambda: CompositionalBandit(3, 8, barcode_length=3), "barcode_length"),
        (lambda: WaterMaze(1), "grid"),
        (lambda: WaterMaze(steps=0), "steps"),
        (lambda: TwoStep(7), "trials"),
        (lambda: TwoStep(100, 5), "barcode_length"),
        (lambda: TwoStep(common=-1), "common"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()
