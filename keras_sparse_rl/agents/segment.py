import collections

Segment = collections.namedtuple(
    "Segment",
    [
        "observation",
        "is_first",
        "action",
        "reward_t",
        "discount_t",
        "is_valid",
        "is_last_t",
        "outputs",
        "policy",
        "distribution",
        "log_probability",
        "behaviour_log_probability",
        "value",
        "vtrace",
        "memories",
        "prepared",
    ],
)
Segment.__doc__ = """What a loss term sees of a batch of trajectories.

Of `time` steps taken from `time + 1` observations; `_t` belongs to the step
that is reached, everything else to the one that is left.

- `observation`: nest `(batch, time + 1, ...)`.
- `is_first`: bool `(batch, time + 1)`, where episodes start.
- `action`: nest `(batch, time, ...)`.
- `reward_t`: float `(batch, time)`, from the environment; once it is known,
  with the loss terms' rewards.
- `discount_t`: float `(batch, time)`, 0 where the episode terminated.
- `is_valid`: float `(batch, time)`, 0 at steps from the end of an episode to
  the start of the next, which are no experience.
- `is_last_t`: bool `(batch, time)`, where the step reached ends an episode.
- `outputs`: dict of the model's outputs `(batch, time + 1, ...)`.
- `policy`: nest of distributions over the actions, `(batch, time + 1)`.
- `distribution`: the same without the last step, `(batch, time)`.
- `log_probability`, `behaviour_log_probability`: float `(batch, time)`, of
  the actions under the policy that learns and the one that acted.
- `value`: float `(batch, time + 1)`.
- `vtrace`: `losses.VTrace` of tensors `(batch, time)`, None while rewards are
  still being added.
- `memories`: dict of nests `(batch, ...)`, what else had a memory when acting,
  by loss term: its state before the first step.
- `prepared`: dict of what each loss term's `prepare` returned, by its name.

Example:

>>> from keras_sparse_rl.agents import Segment
>>> Segment._fields[:2]
('observation', 'is_first')
"""
