"""Expected steps by simulation, and what training divergence gets wrong."""

import numpy as np
import pytest

from benchmarks import default_policies
from keras_sparse_rl.losses import transfer_gain


def test_a_corridor_by_hand():
    corridor = np.array([[0, 1], [0, 2], [2, 2]])
    # E0 = 1 + q E0 + p E1 and E1 = 1 + q E0, with p to the right.
    p, q = 0.8, 0.2
    expected = (1 + p) / (1 - q - p * q)
    found = transfer_gain(
        np.full((2, 3, 2), [q, p]),
        corridor,
        np.array([[False, False, True]] * 2),
        np.array([[1.0, 0, 0], [0.0, 1, 0]]),
        time_limit=1e12,
    )
    np.testing.assert_allclose(found.steps[0], expected)
    np.testing.assert_allclose(found.steps[1], 1 + q * expected)
    np.testing.assert_allclose(found.uniform_steps, [6, 4])
    assert found.gain == pytest.approx(10 / found.steps.sum())
    assert found.is_likely_to_help


def test_what_is_never_found_counts_as_the_time_limit():
    found = transfer_gain(
        np.full((1, 2, 2), [1.0, 0.0]),
        np.array([[0, 1], [1, 1]]),
        np.array([[False, True]]),
        np.array([[1.0, 0]]),
        time_limit=50,
    )
    np.testing.assert_allclose(found.steps, [50])
    # Each step: found or cut off with probability 1 - 0.5 * 0.98.
    np.testing.assert_allclose(found.uniform_steps, [1 / 0.51])


def test_random_tables_by_simulation():
    generator = np.random.default_rng(0)
    next_state = generator.integers(0, 6, (6, 3))
    next_state[:, 0] = np.roll(np.arange(6), 1)  # every state is reached
    default = generator.dirichlet(np.ones(3), (1, 6))
    success = np.arange(6)[np.newaxis] == 4
    start = np.array([[0.5, 0.5, 0, 0, 0, 0]])
    found = transfer_gain(default, next_state, success, start, 1e9)
    state = generator.integers(0, 2, 4_000)
    steps = np.zeros(4_000)
    for _ in range(400):
        going = state != 4
        steps += going
        chance = default[0, state].cumsum(-1)
        draw = generator.random((4_000, 1))
        action = (draw > chance).sum(-1).clip(max=2)
        state = np.where(going, next_state[state, action], state)
    error = 4 * steps.std() / np.sqrt(4_000)
    assert found.steps[0] == pytest.approx(steps.mean(), abs=error)


def ranks(rooms):
    """Training divergence and gain, by what the default sees."""
    found = {}
    for name in ("walls + previous action", "position + previous action"):
        information = rooms.information[name]
        default, policy, weight, value, objective = default_policies.alternate(
            rooms, information, rooms.targets
        )
        assert np.diff(objective).min() > -1e-6
        each = weight * default_policies.divergence(policy, default)
        gain = default_policies.diagnose(rooms, information, value)
        found[name] = each.sum() / weight.sum(), gain
    return list(found.values())


def test_it_warns_where_training_divergence_does_not():
    rooms = default_policies.Rooms(0, size=7, num_targets=4)
    (divergence, gain), (tempting, warned) = ranks(rooms)
    assert tempting < divergence
    assert warned.gain < gain.gain and not warned.is_likely_to_help


@pytest.mark.slow
def test_it_warns_in_the_rooms_of_the_benchmark():
    (divergence, gain), (tempting, warned) = ranks(default_policies.Rooms(0))
    assert tempting < divergence
    assert gain.is_likely_to_help and not warned.is_likely_to_help


def test_mistakes():
    corridor = np.array([[0, 1], [0, 2], [2, 2]])
    default = np.full((1, 3, 2), 0.5)
    success = np.array([[False, False, True]])
    start = np.array([[1.0, 0, 0]])
    for arguments, words in (
        ((default[0], corridor, success, start), "Shapes"),
        ((default, corridor, success[:, :2], start), "Shapes"),
        ((0.9 * default, corridor, success, start), "sum to 1"),
        ((default, corridor, success, start, 0), "`time_limit`"),
    ):
        with pytest.raises(ValueError, match=words):
            transfer_gain(*arguments)
