import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_sparse_rl.kernels import masks
from keras_sparse_rl.sparsity import global_topk_masks
from keras_sparse_rl.sparsity import keep_count
from keras_sparse_rl.sparsity import topk_mask

scores = hnp.arrays(
    "float32",
    hnp.array_shapes(max_dims=3, max_side=8),
    # Few values, so that ties are the rule.
    elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]),
)


@given(scores=scores, density=st.floats(0.001, 1.0))
@settings(max_examples=200, deadline=None)
def test_exact_and_ordered(scores, density):
    mask = topk_mask(scores, density)
    count = min(scores.size, max(1, round(density * scores.size)))
    np.testing.assert_array_equal(mask, by_sorting(scores, count))


def by_sorting(scores, count):
    """Python's stable sort of the negated scores is the reference."""
    order = sorted(range(scores.size), key=lambda i: -scores.reshape(-1)[i])
    expected = np.zeros(scores.size, bool)
    expected[order[:count]] = True
    return expected.reshape(scores.shape)


# Of sizes at which a sample is taken, which these orders make misleading.
LARGE = {
    "normal": lambda g: g.normal(size=70_001).astype("float32"),
    "ties": lambda g: g.integers(0, 4, 70_001).astype("float32"),
    "constant": lambda g: np.ones(70_001, "float32"),
    "ordered": lambda g: np.arange(70_001, dtype="float32"),
    "sample too low": lambda g: (
        np.float32(np.arange(70_001) % 17 > 0) * g.random(70_001, "float32")
    ),
    "sample too high": lambda g: (
        np.float32(np.arange(70_001) % 17 == 0) + g.random(70_001, "float32")
    ),
    "infinite": lambda g: np.where(g.random(70_001) < 0.5, np.inf, 1.0),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("density", [1e-5, 0.01, 0.1, 0.5, 0.99, 0.99999])
def test_exact_when_large(name, density):
    scores = LARGE[name](np.random.default_rng(0))
    np.testing.assert_array_equal(
        topk_mask(scores, density), by_sorting(scores, round(density * 70_001))
    )


def test_a_sample_saves_most_of_the_work(monkeypatch):
    """Also where the columns of a kernel differ in scale."""
    sizes = []

    def partition(array, place):
        sizes.append(array.size)
        return np.partition(array, place)

    generator = np.random.default_rng(4)
    scores = generator.normal(size=(1024, 1024)) * np.exp(
        generator.normal(0, 0.3, 1024)
    )
    watched = types.SimpleNamespace(**{**vars(np), "partition": partition})
    monkeypatch.setattr(masks, "np", watched)
    for density in (0.02, 0.1, 0.5, 0.9):
        topk_mask(abs(scores), density)
    assert len(sizes) == 4 and max(sizes) < scores.size / 8


@given(
    scores=scores, densities=st.tuples(*[st.floats(0.001, 1.0)] * 2).map(sorted)
)
def test_a_lower_density_is_part_of_a_higher_one(scores, densities):
    few, many = (topk_mask(scores, density) for density in densities)
    assert not (few & ~many).any()


def test_ties_break_by_index():
    mask = topk_mask(np.ones((2, 3)), 0.5)
    assert mask.tolist() == [[True, True, True], [False, False, False]]


def test_at_least_one_weight_is_kept():
    assert topk_mask([1.0, 2.0], 0.01).tolist() == [False, True]
    assert keep_count(1e-9, 10) == 1


def test_global_ranks_all_arrays_together():
    masks = global_topk_masks([np.array([[9.0, 1.0]]), np.array([3, 2])], 0.5)
    assert masks[0].tolist() == [[True, False]]
    assert masks[1].tolist() == [True, False]


@pytest.mark.parametrize("density", [0, -0.1, 1.01, float("nan"), "0.1"])
def test_bad_density(density):
    with pytest.raises(ValueError, match="density"):
        topk_mask([1.0], density)


def test_nan_is_named():
    with pytest.raises(ValueError, match="diverged"):
        topk_mask([1.0, float("nan"), 2.0], 0.5)
