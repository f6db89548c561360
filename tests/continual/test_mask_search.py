"""PackNet's share and EfficientPackNet's search, by hand and by property."""

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import strategies

from keras_sparse_rl.continual import packnet_mask
from keras_sparse_rl.continual import sparsest

WEIGHTS = hypothesis.extra.numpy.arrays(
    "float32", (4, 6), elements=strategies.floats(-9, 9, width=32)
)
MASKS = hypothesis.extra.numpy.arrays("bool", (4, 6))


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(WEIGHTS, MASKS, strategies.integers(1, 12))
def test_the_share_is_exact_free_and_the_largest(weight, free, tasks_left):
    mask = packnet_mask(weight, free, tasks_left)
    size = free.sum()
    count = min(size, max(1, round(size / tasks_left))) if size else 0
    assert mask.sum() == count
    assert not (mask & ~free).any()
    rest = free & ~mask
    if mask.any() and rest.any():
        assert abs(weight[mask]).min() >= abs(weight[rest]).max()


def test_all_tasks_get_the_same_number_of_weights():
    free = np.ones(100, bool)
    generator = np.random.default_rng(0)
    for tasks_left in (5, 4, 3, 2, 1):
        mask = packnet_mask(generator.normal(size=100), free, tasks_left)
        assert mask.sum() == 20
        free &= ~mask
    assert not free.any()


def test_sparsest_asks_from_below_and_no_more_than_needed():
    asked = []

    def score(density):
        asked.append(density)
        return {0.05: 0.2, 0.1: 0.9, 0.3: 0.4, 0.5: 1.0}[density]

    assert sparsest([0.5, 0.1, 0.3, 0.05], score, 0.9) == 0.1
    assert asked == [0.05, 0.1]
    assert sparsest([0.05, 0.3], score, 0.9) == 1.0


def test_wrong_arguments_are_answered():
    with pytest.raises(ValueError, match="tasks_left=0"):
        packnet_mask([1.0], [True], 0)
    with pytest.raises(ValueError, match="Received none"):
        sparsest([], float, 0)
    with pytest.raises(ValueError, match="densities=0"):
        sparsest([0.0, 0.5], float, 0)
    with pytest.raises(ValueError, match="minimum=nan"):
        sparsest([0.5], float, np.nan)
    for free in (None, [True], [[True], [False]], [0, 1]):
        with pytest.raises(ValueError, match="`free` must be.*Received"):
            packnet_mask([1.0, 2.0], free, 1)
    with pytest.raises(ValueError, match="holds NaN"):
        packnet_mask([np.nan, 1.0], [True, True], 1)
