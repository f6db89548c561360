"""Keras 3 models as TF-Agents networks, in the Keras mode of this process.

`test_legacy_keras` runs this file once more with TF_USE_LEGACY_KERAS=1.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents import DqnAgent
from tf_agents.agents import PPOClipAgent
from tf_agents.agents import ReinforceAgent
from tf_agents.policies import actor_policy
from tf_agents.policies import policy_saver
from tf_agents.specs import BoundedTensorSpec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from keras_sparse_rl import agents
from keras_sparse_rl.agents import KerasNetwork
from tests.agents.tasks import CONTINUOUS
from tests.agents.tasks import CORES
from tests.agents.tasks import DISCRETE
from tests.agents.tasks import OBSERVATION
from tests.agents.tasks import model

each_memory = pytest.mark.parametrize("core", ["LSTM", "GRU", "GTrXL"])


def network(core="none", action_spec=DISCRETE, **arguments):
    return KerasNetwork(
        model(core, action_spec),
        OBSERVATION,
        action_spec,
        output="policy",
        **arguments,
    )


def observations(batch=4, time=6, seed=0):
    generator = np.random.default_rng(seed)
    return tf.constant(generator.normal(size=(batch, time, 3)), tf.float32)


def optimizer():
    # Upstream agents take what suits the mode: `tf.keras` is Keras 2 or 3.
    return tf.keras.optimizers.Adam(1e-2)


@pytest.mark.parametrize("core", CORES)
def test_variables_are_the_models_everywhere(core):
    found = network(core)
    expected = {id(v.value) for v in found.model.trainable_variables}
    policy = actor_policy.ActorPolicy(
        ts.time_step_spec(OBSERVATION), DISCRETE, found
    )
    for variables in (found.trainable_variables, found.trainable_weights):
        assert {id(v) for v in variables} == expected
    assert {id(v) for v in policy.variables()} >= expected
    assert found.layers == found.model.layers
    with tf.GradientTape() as tape:
        distribution, _ = found(observations())
        loss = tf.reduce_sum(distribution.log_prob(tf.zeros((4, 6), tf.int32)))
    gradients = tape.gradient(loss, found.trainable_variables)
    missing = [g is None for g in gradients]
    assert sum(missing) == 2  # the value head


@each_memory
def test_segments_equal_steps_and_first_steps_forget(core):
    found = network(core)
    inputs = observations()
    kinds = np.ones((4, 6), np.int32)
    kinds[1, 3] = kinds[2, 0] = kinds[3, 5] = 0
    whole, last = found(inputs, step_type=tf.constant(kinds), network_state=())
    state = found.get_initial_state(batch_size=4)
    for t in range(6):
        single, state = found(
            inputs[:, t],
            step_type=tf.constant(kinds[:, t]),
            network_state=state,
        )
        np.testing.assert_allclose(single.logits, whole.logits[:, t], atol=1e-5)
    for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(last)):
        np.testing.assert_allclose(a, b, atol=1e-5)
    fresh, _ = found(inputs[1:2, 3:])
    np.testing.assert_allclose(fresh.logits, whole.logits[1:2, 3:], atol=1e-5)
    other, _ = found(inputs)
    assert np.abs(other.logits[1, 3:] - whole.logits[1, 3:]).max() > 1e-4


@pytest.mark.parametrize("squash", [True, False])
def test_continuous_actions(squash):
    found = network("none", CONTINUOUS, squash=squash)
    distribution, _ = found(observations())
    samples = distribution.sample(500).numpy()
    assert samples.shape == (500, 4, 6, 2)
    inside = (samples >= CONTINUOUS.minimum) & (samples <= CONTINUOUS.maximum)
    assert inside.all() == squash
    # Softplus starts the spread at half the range, around its middle.
    middle, half = np.array([0.0, 2.0]), np.array([1.0, 2.0])
    if squash:
        samples = np.arctanh(
            np.clip((samples - middle) / half, -1 + 1e-6, 1 - 1e-6)
        )
        middle, half = 0.0, 1.0
    assert np.abs(samples.mean((0, 1, 2)) - middle).max() < 0.2
    assert np.abs(samples.std((0, 1, 2)) / half - 1).max() < 0.15
    policy = actor_policy.ActorPolicy(
        ts.time_step_spec(OBSERVATION), CONTINUOUS, found
    )
    action = policy.action(ts.restart(observations()[:, 0], 4)).action
    assert (
        ((action >= CONTINUOUS.minimum) & (action <= CONTINUOUS.maximum))
        .numpy()
        .all()
    )


def test_log_probability_of_a_squashed_normal_by_hand():
    spec = BoundedTensorSpec((1,), tf.float32, -2, 4)
    outputs = tf.constant([[0.3, 0.1]])
    distribution = agents.action_distribution(outputs, spec)
    location, scale = 0.3, np.log1p(np.exp(0.1 + 0.5413)) + 1e-4
    normal = 0.7  # the variable before tanh
    action = 1 + 3 * np.tanh(normal)
    expected = (
        -0.5 * ((normal - location) / scale) ** 2
        - np.log(scale * np.sqrt(2 * np.pi))
        - np.log(3 * (1 - np.tanh(normal) ** 2))
    )
    found = distribution.log_prob(tf.constant([[action]], tf.float32))
    np.testing.assert_allclose(found, [expected], rtol=1e-4)
    entropy = agents.action_entropy(distribution)
    np.testing.assert_allclose(
        entropy, [0.5 * np.log(2 * np.pi * np.e * scale**2)], rtol=1e-5
    )


def test_nests_of_observations_and_actions():
    observation_spec = {
        "place": BoundedTensorSpec((), tf.int32, 1, 5),
        "view": tf.TensorSpec((2, 2), tf.float32),
    }
    action_spec = {
        "move": DISCRETE,
        "buttons": BoundedTensorSpec((2,), tf.int32, 0, 1),
        "speed": CONTINUOUS,
    }
    found = KerasNetwork(
        agents.actor_critic_model(
            observation_spec, action_spec, core=keras.layers.GRU(4)
        ),
        observation_spec,
        action_spec,
        output="policy",
    )
    inputs = {
        "view": tf.ones((3, 5, 2, 2)),
        "place": tf.constant([[1, 2, 3, 4, 5]] * 3),
    }
    distribution, _ = found(inputs)
    sample = tf.nest.map_structure(lambda d: d.sample(), distribution)
    shapes = {k: tuple(v.shape) for k, v in sample.items()}
    assert shapes == {"move": (3, 5), "buttons": (3, 5, 2), "speed": (3, 5, 2)}
    assert distribution["buttons"].log_prob(sample["buttons"]).shape == (3, 5)
    other = {**inputs, "place": inputs["place"][:, ::-1]}
    changed, _ = found(other)
    assert (changed["move"].logits != distribution["move"].logits).numpy().any()


def test_copies_have_variables_of_their_own():
    for core in ("none", "GTrXL"):
        first = network(core)
        second = first.copy(name="second")
        assert second.name == "second"
        ours = {id(v) for v in first.variables}
        assert not ours & {id(v) for v in second.variables}
        assert [v.shape for v in first.variables] == [
            v.shape for v in second.variables
        ]


def test_checkpoint_restores(tmp_path):
    first, second = network("LSTM"), network("LSTM")
    path = tf.train.Checkpoint(network=first).save(str(tmp_path / "c"))
    tf.train.Checkpoint(network=second).restore(path)
    for a, b in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("core", ["none", "GTrXL"])
def test_policy_saver_exports_a_policy_that_acts_the_same(core, tmp_path):
    policy = actor_policy.ActorPolicy(
        ts.time_step_spec(OBSERVATION), DISCRETE, network(core)
    )
    policy_saver.PolicySaver(policy, batch_size=None).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    state = loaded.get_initial_state(4)
    expected_state = policy.get_initial_state(4)
    for t in range(3):
        time_step = ts.transition(observations()[:, t], tf.zeros(4))
        found = loaded.distribution(time_step, state)
        expected = policy.distribution(time_step, expected_state)
        np.testing.assert_allclose(
            found.action.logits, expected.action.logits, atol=1e-6
        )
        state, expected_state = found.state, expected.state
    for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(expected_state)):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert loaded.action(time_step, state).action.shape == (4,)


def trajectories(policy_info, time=5, batch=4):
    generator = np.random.default_rng(0)
    kinds = np.ones((batch, time), np.int32)
    kinds[:, 0] = 0
    kinds[:, -1] = 2
    return trajectory.Trajectory(
        step_type=tf.constant(kinds),
        observation=observations(batch, time),
        action=tf.constant(generator.integers(0, 3, (batch, time)), tf.int32),
        policy_info=policy_info,
        next_step_type=tf.constant(np.roll(kinds, -1, 1)),
        reward=tf.constant(generator.normal(size=(batch, time)), tf.float32),
        discount=tf.ones((batch, time)),
    )


def changed(variables, train):
    before = [v.numpy() for v in variables]
    train()
    return [bool((a != b.numpy()).any()) for a, b in zip(before, variables)]


@pytest.mark.parametrize("core", ["none", "LSTM", "GTrXL"])
def test_ppo_trains_every_variable(core):
    actor = network(core)
    critic = KerasNetwork(model(core), OBSERVATION, output="value")
    agent = PPOClipAgent(
        ts.time_step_spec(OBSERVATION),
        DISCRETE,
        optimizer=optimizer(),
        actor_net=actor,
        value_net=critic,
        num_epochs=2,
        normalize_observations=False,
        normalize_rewards=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    info = {"dist_params": {"logits": tf.zeros((4, 5, 3))}}
    actor_changes = changed(
        actor.trainable_variables, lambda: agent.train(trajectories(info))
    )
    critic_changes = changed(
        critic.trainable_variables, lambda: agent.train(trajectories(info))
    )
    assert actor_changes.count(False) <= 2 + 4 * (core == "GTrXL")
    assert critic_changes.count(False) <= 2 + 4 * (core == "GTrXL")


def test_reinforce_trains():
    actor = network()
    agent = ReinforceAgent(
        ts.time_step_spec(OBSERVATION),
        DISCRETE,
        actor_network=actor,
        optimizer=optimizer(),
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    changes = changed(
        actor.trainable_variables, lambda: agent.train(trajectories(()))
    )
    assert changes.count(False) == 2  # the value head


def test_dqn_trains_with_a_target_of_its_own():
    q_model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(3),
        ]
    )
    q_network = KerasNetwork(q_model, OBSERVATION)
    agent = DqnAgent(
        ts.time_step_spec(OBSERVATION),
        DISCRETE,
        q_network=q_network,
        optimizer=optimizer(),
        target_update_period=100,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    two = tf.nest.map_structure(lambda x: x[:, 1:3], trajectories(()))
    target = agent._target_q_network.variables
    before = [v.numpy() for v in target]
    assert all(changed(q_network.variables, lambda: agent.train(two)))
    for a, b in zip(before, target):
        np.testing.assert_array_equal(a, b)


class Contract(keras.Model):
    """A subclassed model of the network contract."""

    def __init__(self, broken=False):
        super().__init__()
        self.cell = keras.layers.GRUCell(4)
        self.head = keras.layers.Dense(3)
        self.broken = broken

    def call(self, inputs, training=False):
        state, outputs = inputs["state"], []
        for t in range(inputs["observation"].shape[1]):
            keep = 1 - tf.cast(inputs["is_first"][:, t, None], tf.float32)
            h, _ = self.cell(inputs["observation"][:, t], [state * keep])
            state = h
            outputs.append(self.head(h))
        state = state[:, :2] if self.broken else state
        return {"outputs": tf.stack(outputs, 1), "state": state}


def test_subclassed_models_of_the_contract():
    found = KerasNetwork(
        Contract(),
        OBSERVATION,
        DISCRETE,
        state_spec=tf.TensorSpec((4,), tf.float32),
    )
    distribution, state = found(observations())
    assert distribution.batch_shape == (4, 6) and state.shape == (4, 4)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: KerasNetwork(3, OBSERVATION), "`model`"),
        (
            lambda: KerasNetwork(
                keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
                OBSERVATION,
                DISCRETE,
            ),
            "does not fit `action_spec`",
        ),
        (
            lambda: KerasNetwork(
                keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]),
                OBSERVATION,
            ),
            "`observation_spec`",
        ),
        (
            lambda: KerasNetwork(model(), OBSERVATION, output="advantage"),
            "`output`",
        ),
        (
            lambda: KerasNetwork(
                keras.Sequential(
                    [keras.Input((None, 3)), keras.layers.LSTM(3)]
                ),
                OBSERVATION,
            ),
            "build_model",
        ),
        (
            lambda: KerasNetwork(
                Contract(broken=True),
                OBSERVATION,
                state_spec=tf.TensorSpec((4,), tf.float32),
            ),
            "`state_spec`",
        ),
        (
            lambda: agents.num_action_outputs(tf.TensorSpec((), tf.int32)),
            "bounds",
        ),
        (
            lambda: agents.num_action_outputs(
                BoundedTensorSpec((), tf.int32, 1, 2)
            ),
            "minimum 0",
        ),
        (
            lambda: agents.build_model(OBSERVATION, {}),
            "`heads`",
        ),
        (
            lambda: agents.build_model(
                OBSERVATION,
                {"x": keras.layers.Dense(1)},
                core=keras.layers.Dense(2),
            ),
            "`core`",
        ),
    ],
)
def test_what_does_not_fit(make, words):
    with pytest.raises(ValueError, match=words):
        make()
