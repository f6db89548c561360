"""Where the weights of a sparse matrix stand in vectors.

A matrix `(inputs, outputs)` with a forward set A and a backward set B is
stored output by output: first the weights in A by rising input, then those in
B alone. Vectors are as long as the most weights that ever fit (`capacity`);
what is left over at the end belongs to no output.
"""

import dataclasses

import numpy as np

from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD


@dataclasses.dataclass(frozen=True)
class SparseLayout:
    """Positions of the weights, as int32 arrays.

    Attributes:
        inputs: `(capacity,)`, the input of each entry.
        bounds: `(3, outputs)`: where each output's entries begin, where those
            in A end, and where all end.
        mask: uint8 `(capacity,)`, bits as in `sparsity.masks`.
        outputs_by_input: `(capacity,)`, the outputs of the entries in A, input
            by input.
        entries_by_input: `(capacity,)`, which entries these are.
        bounds_by_input: `(2, inputs)`: where each input's begin and end.
    """

    inputs: np.ndarray
    bounds: np.ndarray
    mask: np.ndarray
    outputs_by_input: np.ndarray
    entries_by_input: np.ndarray
    bounds_by_input: np.ndarray

    @classmethod
    def from_masks(cls, forward, backward, capacity):
        """The layout of two boolean arrays `(inputs, outputs)`."""
        bits = np.uint8(FORWARD) * forward + np.uint8(BACKWARD) * backward
        is_used = np.ascontiguousarray(np.transpose(forward))
        is_resting = np.ascontiguousarray(bits.T == BACKWARD)
        used = np.count_nonzero(is_used, axis=1)
        resting = np.count_nonzero(is_resting, axis=1)
        end = np.cumsum(used + resting)
        begin = end - used - resting
        inputs = np.zeros(capacity, "int32")
        mask = np.zeros(capacity, "uint8")
        entry_of = np.empty(forward.shape, "int32")
        for chosen, counts, first in (
            (is_used, used, begin),
            (is_resting, resting, begin + used),
        ):
            outputs, found = np.divmod(np.flatnonzero(chosen), len(bits))
            rank = np.arange(len(found)) - (np.cumsum(counts) - counts)[outputs]
            entries = first[outputs] + rank
            inputs[entries] = found
            mask[entries] = bits[found, outputs]
            entry_of[found, outputs] = entries
        by_input = np.count_nonzero(forward, axis=1)
        end_by_input = np.cumsum(by_input)
        in_use = np.flatnonzero(forward)
        return cls(
            inputs,
            np.stack([begin, begin + used, end]).astype("int32"),
            mask,
            _padded(in_use % forward.shape[1], capacity),
            _padded(entry_of.reshape(-1)[in_use], capacity),
            np.stack([end_by_input - by_input, end_by_input]).astype("int32"),
        )

    @classmethod
    def from_entries(cls, inputs, counts, used, mask, num_inputs, capacity):
        """The layout of entries in their order.

        Args:
            inputs: int array, the input of each entry.
            counts: int array `(outputs,)`, the entries of each output.
            used: int array `(outputs,)`, those of them in A.
            mask: uint8 array, shaped as `inputs`.
            num_inputs: int.
            capacity: int, at least `len(inputs)`.
        """
        end = np.cumsum(counts)
        begin = end - counts
        in_use = np.flatnonzero(mask & FORWARD)
        outputs = np.repeat(np.arange(len(counts)), counts)
        by_input = in_use[np.argsort(inputs[in_use], kind="stable")]
        per_input = np.bincount(inputs[in_use], minlength=num_inputs)
        end_by_input = np.cumsum(per_input)
        return cls(
            _padded(inputs, capacity),
            np.stack([begin, begin + used, end]).astype("int32"),
            _padded(mask, capacity, "uint8"),
            _padded(outputs[by_input], capacity),
            _padded(by_input, capacity),
            np.stack([end_by_input - per_input, end_by_input]).astype("int32"),
        )

    def places(self):
        """Indices `(inputs, outputs)` of the entries, two arrays."""
        begin, _, end = self.bounds
        outputs = np.repeat(np.arange(len(end)), end - begin)
        return self.inputs[: len(outputs)], outputs

    def sources(self, old):
        """Where each entry stood in another layout of the same matrix.

        Args:
            old: `SparseLayout`.

        Returns:
            Pair of an int32 array, the entry of `old` or -1 where it has none,
            and a boolean one: what is in B in both, and so keeps its slots.
        """
        shape = self.bounds_by_input.shape[1], self.bounds.shape[1]
        entry = np.full(shape, -1, "int32")
        old_places = old.places()
        entry[old_places] = np.arange(len(old_places[0]))
        source = entry[self.places()]
        was_trained = (old.mask[source] & BACKWARD != 0) & (source >= 0)
        stays = was_trained & (self.mask[: len(source)] & BACKWARD != 0)
        return source, stays

    def map(self, function):
        """The same layout with a function applied to each of its arrays."""
        return SparseLayout(
            **{name: function(array) for name, array in vars(self).items()}
        )


def _padded(values, capacity, dtype="int32"):
    padded = np.zeros(capacity, dtype)
    padded[: len(values)] = values
    return padded
