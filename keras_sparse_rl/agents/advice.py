import collections

Advice = collections.namedtuple("Advice", ["policy", "value"])
Advice.__doc__ = """What a `Teacher` says of a batch of steps.

`policy`: logits `(batch, time, choices)`, `losses.Gaussian`, or a list of
them; `value`: tensor `(batch, time)`, or None if the teacher has none. No
gradient flows through them.

Example:

>>> from keras_sparse_rl.agents import Advice
>>> Advice(policy=None, value=None).value is None
True
"""
