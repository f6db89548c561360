"""Masks, positions and memories against loops over their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_sparse_rl.layers import attention_window as window

sizes = st.integers(1, 5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), sizes, st.one_of(st.none(), st.integers(0, 6)))
def test_window_mask(num_memory, num_steps, reach):
    found = window.window_mask(num_memory, num_steps, reach)
    for i in range(num_steps):
        for j in range(num_memory + num_steps):
            distance = num_memory + i - j
            expected = distance >= 0 and (reach is None or distance <= reach)
            assert bool(found[i, j]) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), sizes, st.integers(0, 6))
def test_skew_puts_scores_at_their_distance(num_memory, num_steps, extra):
    reach = min(num_memory + extra, num_memory + num_steps - 1)
    scores = np.random.default_rng(0).normal(size=(2, 3, num_steps, reach + 1))
    found = np.array(window.skew(scores, num_memory, num_steps))
    assert found.shape == (2, 3, num_steps, num_memory + num_steps)
    for i in range(num_steps):
        for j in range(num_memory + num_steps):
            distance = num_memory + i - j
            if 0 <= distance <= reach:
                np.testing.assert_array_equal(
                    found[:, :, i, j], scores[:, :, i, reach - distance]
                )


def test_sinusoids_are_the_same_in_the_graph_and_outside():
    distances = np.arange(600)[::-1]
    expected = [
        [np.sin(d / 10000 ** (k / 8)) for k in (0, 2, 4, 6)]
        + [np.cos(d / 10000 ** (k / 8)) for k in (0, 2, 4, 6)]
        for d in distances
    ]
    constant = window.sinusoids(distances, 8, "float64")
    np.testing.assert_allclose(constant, expected, atol=1e-12)
    tensor = window.sinusoids(window.ops.convert_to_tensor(distances), 8)
    np.testing.assert_allclose(tensor, expected, atol=1e-4)


rows = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), rows)
def test_a_row_sees_and_remembers_its_own_episode(slots, filled, row):
    """Against a list that is cleared at a reset and skips padded steps."""
    filled = min(filled, slots)
    is_first = np.array([[first for first, _ in row]])
    mask = np.array([[valid for _, valid in row]])
    numbers = window.episode_numbers(
        len(row), slots, np.array([filled]), is_first
    )
    visible = np.array(window.episode_mask(*numbers, mask))[0]
    remembered = list(range(slots))[slots - filled :]
    for t, (first, valid) in enumerate(row):
        if first:
            remembered = []
        own = slots + t
        causal = np.flatnonzero(visible[t, : own + 1])
        assert sorted({*remembered, own}) == causal.tolist()
        if valid:
            remembered.append(own)
    memory = np.arange(slots, dtype="float32").reshape(1, 1, slots, 1)
    hidden = slots + np.arange(len(row), dtype="float32").reshape(1, 1, -1, 1)
    memory, length = window.next_memory(memory, hidden, *numbers, mask)
    expected = remembered[-slots:]
    assert memory.shape == (1, 1, slots, 1)
    assert int(length[0]) == len(expected)
    latest = np.array(memory)[0, 0, slots - len(expected) :, 0]
    np.testing.assert_array_equal(latest, expected)
