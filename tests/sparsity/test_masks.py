import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
    # Python's stable sort of the negated scores is the reference.
    order = sorted(range(scores.size), key=lambda i: -scores.reshape(-1)[i])
    expected = np.zeros(scores.size, bool)
    expected[order[:count]] = True
    np.testing.assert_array_equal(mask, expected.reshape(scores.shape))


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
