"""Gymnasium's environments as TF-Agents sees them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tf_agents.environments import tf_py_environment
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.environments import GymnasiumEnvironment


class Counter(gymnasium.Env):
    """Counts steps; even seeds terminate at step 3, odd ones are truncated."""

    def __init__(self, observation=None, action=None):
        self.observation_space = observation or spaces.Box(
            -np.inf, np.inf, (1,), np.float64
        )
        self.action_space = action or spaces.Discrete(3, start=5)
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        if seed is not None:
            self.even = seed % 2 == 0
        return self._observation(), {}

    def step(self, action):
        self.actions.append(action)
        self.time += 1
        end = self.time == 3
        return (
            self._observation(),
            float(self.time),
            end and self.even,
            end and not self.even,
            {},
        )

    def _observation(self):
        if isinstance(self.observation_space, spaces.Box):
            return np.array([self.time], np.float64)
        return self.observation_space.sample()


def test_termination_and_truncation_are_told_apart():
    environment = GymnasiumEnvironment(Counter, batch_size=2, seed=0)
    steps = [environment.reset()]
    steps += [environment.step(np.zeros(2, int)) for _ in range(5)]
    first, mid, last = ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST
    kinds = [first, mid, mid, last, first, mid]
    np.testing.assert_array_equal(
        [s.step_type for s in steps], np.transpose([kinds, kinds])
    )
    np.testing.assert_array_equal(
        [s.discount for s in steps],
        [[1, 1], [1, 1], [1, 1], [0, 1], [1, 1], [1, 1]],
    )
    np.testing.assert_array_equal(
        [s.reward[0] for s in steps], [0, 1, 2, 3, 0, 1]
    )
    np.testing.assert_array_equal(
        [s.observation[0, 0] for s in steps], [0, 1, 2, 3, 0, 1]
    )
    assert steps[1].observation.dtype == np.float32


def test_actions_count_from_zero():
    counter = Counter()
    environment = GymnasiumEnvironment(counter)
    spec = environment.action_spec()
    assert (spec.minimum, spec.maximum) == (0, 2)
    environment.reset()
    environment.step(np.array([2]))
    assert counter.actions == [7]


@pytest.mark.parametrize(
    "space, shape, dtype",
    [
        (spaces.Box(-1, 1, (2,)), (2,), "float32"),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), (4, 4, 3), "uint8"),
        (spaces.Discrete(4, start=2), (), "int64"),
        (spaces.MultiDiscrete([3, 3]), (2,), "int64"),
        (spaces.MultiBinary(3), (3,), "int32"),
        (spaces.Box(0, 1, (2, 2), bool), (2, 2), "int32"),
    ],
)
def test_spaces_become_specs_that_hold_their_samples(space, shape, dtype):
    nested = spaces.Dict({"a": space, "b": spaces.Tuple([space, space])})
    environment = GymnasiumEnvironment(
        lambda: Counter(nested), batch_size=2, seed=0
    )
    spec = environment.observation_spec()
    observation = environment.reset().observation
    for found, array in (
        (spec["a"], observation["a"]),
        (spec["b"][1], observation["b"][1]),
    ):
        assert (found.shape, found.dtype) == (shape, dtype)
        assert (array.shape, array.dtype) == ((2, *shape), dtype)
        assert (array >= found.minimum).all() and (array <= found.maximum).all()


@pytest.mark.parametrize(
    "space", [spaces.MultiBinary(3), spaces.Box(0, 1, (3,), bool)]
)
def test_bits_reach_the_environment_as_it_has_them(space):
    counter = Counter(action=space)
    environment = GymnasiumEnvironment(counter)
    spec = environment.action_spec()
    assert spec.dtype == "int32"
    assert np.all(spec.minimum == 0) and np.all(spec.maximum == 1)
    environment.reset()
    environment.step(np.array([[0, 1, 1]], "int32"))
    np.testing.assert_array_equal(counter.actions[0], [0, 1, 1])
    assert space.contains(counter.actions[0])


def test_observations_stay_where_the_vector_environment_writes_anew():
    shared = gymnasium.vector.SyncVectorEnv([Counter] * 2, copy=False)
    environment = GymnasiumEnvironment(shared, seed=0)
    first = environment.reset().observation
    environment.step(np.zeros(2, int))
    np.testing.assert_array_equal(first, [[0], [0]])


def test_in_tf_agents_own_wrapper():
    environment = tf_py_environment.TFPyEnvironment(
        GymnasiumEnvironment("CartPole-v1", batch_size=3, seed=0)
    )
    time_step = environment.step(np.zeros(3, np.int64))
    assert time_step.observation.shape == (3, 4)


def test_continuous_actions_reach_the_environment():
    action = spaces.Box(-2, 2, (1,), np.float32)
    counter = Counter(action=action)
    environment = GymnasiumEnvironment(lambda: counter)
    environment.reset()
    environment.step(np.array([[0.5]], np.float64))
    assert counter.actions[0].dtype == np.float32


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: GymnasiumEnvironment(Counter(spaces.Text(3))), "Text"),
        (
            lambda: GymnasiumEnvironment(
                Counter(spaces.Dict({"k": spaces.Sequence(spaces.Discrete(2))}))
            ),
            r"observation_space\['k'\]",
        ),
        (lambda: GymnasiumEnvironment(3), "`environment`"),
        (lambda: GymnasiumEnvironment(Counter(), batch_size=2), "copied"),
        (lambda: GymnasiumEnvironment(Counter, batch_size=0), "`batch_size`"),
        (
            lambda: GymnasiumEnvironment(
                gymnasium.vector.SyncVectorEnv([Counter]), batch_size=4
            ),
            "`batch_size`",
        ),
        (
            lambda: GymnasiumEnvironment(
                gymnasium.vector.SyncVectorEnv(
                    [Counter],
                    autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
                )
            ),
            "NEXT_STEP",
        ),
    ],
)
def test_what_cannot_be_held(make, words):
    with pytest.raises(ValueError, match=words):
        make()
