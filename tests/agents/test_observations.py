"""Spaces of Gymnasium in an agent; what its model makes of observations."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents import KerasNetwork
from tests.agents import tasks


class Random(gymnasium.Env):
    """Samples of its spaces."""

    def __init__(self, observation, action):
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.mark.parametrize(
    "space", [spaces.MultiBinary(3), spaces.Box(0, 1, (3,), bool)]
)
def test_bits_are_learned_from_and_chosen(space):
    environment = environments.GymnasiumEnvironment(
        lambda: Random(space, space), batch_size=2, seed=0
    )
    agent = tasks.maze_agent(environment)
    history = agents.train(
        agent,
        environment,
        epochs=1,
        steps_per_epoch=1,
        segment_length=2,
        verbose=0,
    ).history
    assert history["gradient_norm"][0] > 0


@pytest.mark.parametrize("size", [(1,), (2,), ()])
def test_acting_and_learning_agree_on_squashed_actions(size):
    """Also where tanh has rounded so much that its inverse is another."""
    low, high = np.zeros(size, "float32"), np.full(size, 10, "float32")
    spec = BoundedTensorSpec(size, tf.float32, low, high)
    agent = tasks.agent(action_spec=spec)
    number = 2 * max(1, *size, 1)
    (head,) = [
        layer
        for layer in agent.model.layers
        if isinstance(layer, keras.layers.Dense) and layer.units == number
    ]
    head.bias.assign([7.0] * (number // 2) + [0.0] * (number // 2))
    time_step = tf.nest.map_structure(
        lambda x: tf.zeros((500, *x.shape), x.dtype), agent.time_step_spec
    )
    acted = agent.collect_policy.action(time_step)
    learned = agent.collect_policy.distribution(time_step).action.log_prob(
        tf.identity(acted.action)
    )
    np.testing.assert_allclose(
        acted.info["log_probability"], learned, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("high", [255, 3])
def test_bytes_become_numbers_up_to_one(high):
    spec = BoundedTensorSpec((2, 2), tf.uint8, 0, high)
    torso = {"value": keras.layers.Dense(1, use_bias=False)}
    model = agents.build_model(spec, torso)
    seen = []
    for value in (0, high):
        x = keras.ops.full((1, 1, 2, 2), value, "uint8")
        model.get_layer("torso").kernel.assign(np.ones((4, 64)))
        torso["value"].kernel.assign(np.ones((64, 1)) / 64)
        found = model(
            {
                "observation": x,
                "is_first": keras.ops.zeros((1, 1), "bool"),
                "state": {},
            }
        )
        seen.append(float(found["outputs"]["value"][0, 0, 0]))
    assert seen == pytest.approx([0.0, 4.0])


def spec_of(*names):
    return {name: tf.TensorSpec((2,), tf.float32, name) for name in names}


def difference(names, as_dict=False):
    """A model of first minus second input."""
    inputs = [keras.Input((2,), name=name) for name in names]
    outputs = keras.layers.Subtract()(inputs)
    return keras.Model(dict(zip(names, inputs)) if as_dict else inputs, outputs)


@pytest.mark.parametrize("as_dict", [False, True])
def test_observations_reach_a_functional_model_by_name(as_dict):
    model = difference(("velocity", "position"), as_dict)
    network = KerasNetwork(model, spec_of("position", "velocity"))
    seen = {"position": tf.ones((1, 2)), "velocity": 3 * tf.ones((1, 2))}
    np.testing.assert_array_equal(model(seen), [[2, 2]])
    np.testing.assert_array_equal(network(seen)[0], [[2, 2]])
    over_time = tf.nest.map_structure(lambda x: x[:, tf.newaxis], seen)
    np.testing.assert_array_equal(network(over_time)[0], [[[2, 2]]])


@pytest.mark.parametrize("as_dict", [False, True])
def test_names_that_differ_are_refused(as_dict):
    model = difference(("velocity", "position"), as_dict)
    with pytest.raises(ValueError, match="'velocity'.*'speed'"):
        KerasNetwork(model, spec_of("position", "speed"))


def test_one_input_takes_the_only_observation():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    network = KerasNetwork(model, spec_of("position"))
    assert network({"position": tf.ones((1, 2))})[0].shape == (1, 3)
