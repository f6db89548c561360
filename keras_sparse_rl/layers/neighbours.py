import collections

Neighbours = collections.namedtuple(
    "Neighbours", ["keys", "values", "slots", "found"]
)
Neighbours.__doc__ = """The entries of an `EpisodicMemory` nearest to queries.

`keys` `(batch, ..., k, key_dim)` and `values` `(batch, ..., k, value_dim)`,
nearest first; `slots`, int32 `(batch, ..., k)`, where they lie; `found`, bool
`(batch, ..., k)`, false where the memory holds fewer than k entries.

Example:

>>> from keras_sparse_rl.layers import Neighbours
>>> Neighbours._fields
('keys', 'values', 'slots', 'found')
"""
