import collections

SimplePolicy = collections.namedtuple(
    "SimplePolicy",
    ["name", "actions", "memory", "task"],
    defaults=(None, True, None),
)
SimplePolicy.__doc__ = """What a simpler policy of a Mix&Match curriculum lacks.

Given to `mix_and_match_model` and `MixAndMatchAgent` from the simplest on. The
last and most complex policy, the one that counts, is the model's output
`"policy"` and is not listed.

- `name`: str, the model's output with the policy's logits.
- `actions`: list of ints, the actions of the environment that the policy
  chooses from: a curriculum over action spaces. None for all.
- `memory`: bool. False: the policy sees the present observation alone, a
  curriculum from feed-forward to recurrent.
- `task`: str, key of the observation that is the number of the task: the
  policy has outputs of its own for every task, a curriculum from specialists
  to one policy for all. None for one policy.

Example:

>>> from keras_sparse_rl.agents import SimplePolicy
>>> SimplePolicy("core", actions=[0, 1, 2]).memory
True
"""
