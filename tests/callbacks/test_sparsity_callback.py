"""A callback of one's own."""

import numpy as np

from keras_sparse_rl.callbacks import SparsityCallback
from keras_sparse_rl.layers import sparse_kernels
from tests.callbacks.network import compiled
from tests.callbacks.network import fit


class HalfOfTheFirst(SparsityCallback):
    """Leaves all kernels but one as they are."""

    def is_stale(self):
        return True

    def new_masks(self, step):
        name, kernel = next(iter(self.kernels.items()))
        mask = np.zeros(kernel.shape, bool)
        mask[::2] = True
        return {name: (mask, mask)}


def test_the_density_reported_is_that_of_all_kernels():
    model = compiled()
    history = fit(model, [HalfOfTheFirst(refresh_every=5)])
    first, *others = (k.forward_mask() for k in sparse_kernels(model))
    assert np.count_nonzero(first) < first.size
    assert all(mask.all() for mask in others) and others
    kept = sum(np.count_nonzero(mask) for mask in (first, *others))
    expected = kept / sum(mask.size for mask in (first, *others))
    np.testing.assert_allclose(history.history["forward_density"], expected)
