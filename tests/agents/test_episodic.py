"""Agents whose dictionary outlives episodes, and is nowhere copied."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.python_collector import PythonCollector
from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory
from tests.agents import tasks

UNITS, CAPACITY, PULLS = 4, 6, 3


def bandit(batch_size=2, seed=0):
    return environments.WithPreviousActionAndReward(
        environments.BarcodeBandit(
            3, 3, 2, PULLS, 4, batch_size=batch_size, seed=seed
        )
    )


def episodic_agent(environment, torso=None, seed=0, key_dim=4):
    keras.utils.set_random_seed(seed)
    memory = EpisodicMemory(CAPACITY, key_dim, UNITS)
    model = agents.actor_critic_model(
        environment.observation_spec(),
        environment.action_spec(),
        torso=torso,
        core=EpisodicLSTM(UNITS, memory, return_state=True),
    )
    return agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        keras.optimizers.Adam(1e-2),
    )


def filled(state):
    return (np.array(state["episodic"]["stamp"]) > 0).sum(1)


def test_networks_say_what_outlives_episodes():
    environment = bandit()
    agent = episodic_agent(environment)
    network, flags = agent._network, agent.policy.outlives_episodes
    assert not any(flags[n] for n in ("hidden", "cell", "key", "steps"))
    assert set(flags["episodic"].values()) == {True}
    tf.nest.assert_same_structure(flags, network.state_spec)
    plain = agents.actor_critic_model(
        environment.observation_spec(),
        environment.action_spec(),
        core=keras.layers.LSTM(2),
    )
    plain = agents.KerasNetwork(plain, environment.observation_spec())
    assert not any(tf.nest.flatten(plain.outlives_episodes))


def test_the_dictionary_lives_until_the_next_task():
    environment = bandit()
    agent = episodic_agent(environment)
    policy = agent.collect_policy
    action = tf.function(policy.sample)
    carry, state = environment.start(), policy.get_initial_state(2)
    length, episodes = PULLS + 1, 6
    for step in range(2 * episodes * length):
        time_step = environment.time_step(carry)
        chosen = action(time_step, state, tf.constant([0, step]))
        assert "episodic" not in chosen.info["state"]
        state = chosen.state
        # One entry a context met in an earlier episode of the task.
        inner = carry["state"]["environment"]
        for row, entries in enumerate(filled(state)):
            now = int(inner["episode"][row])
            assert entries == len(set(inner["order"][row].numpy()[:now]))
        if bool(time_step.is_first()[0]):
            np.testing.assert_array_equal(state["steps"], 1)
        carry = environment.advance(carry, chosen.action)


@pytest.mark.parametrize("kind", ["in graph", "python"])
def test_a_segment_holds_the_dictionary_once(kind):
    environment = bandit()
    agent = episodic_agent(environment)
    make = InGraphCollector
    if kind == "python":
        make = PythonCollector
        environment = tf_py_environment_like(environment)
    collector = make(agent.collect_policy, environment, 10, seed=0)
    for _ in range(3):
        before = agent.collect_policy.get_initial_state(2)
        experience, _ = collector.collect()
        held = experience.policy_info["state"]["episodic"]
        assert held["keys"].shape == (2, 1, CAPACITY, 4)
        before = held
        # Wound forward through the segment again, acting and learning agree:
        # the weights are the same, so are the probabilities.
        segment = agent._segment(experience, training=True)
        np.testing.assert_allclose(
            segment.log_probability,
            segment.behaviour_log_probability,
            atol=1e-5,
        )
    assert (before["stamp"].numpy() > 0).any()


def tf_py_environment_like(environment):
    """The task as an environment that Python steps."""

    class Python:
        batch_size = environment.batch_size

        def action_spec(self):
            return environment.action_spec()

        def reset(self):
            return environment.reset()

        def step(self, action):
            return environment.step(action)

    return Python()


def test_trajectories_without_the_dictionary_are_refused():
    environment = bandit()
    agent = episodic_agent(environment)
    experience, _ = InGraphCollector(
        agent.collect_policy, environment, 4, seed=0
    ).collect()
    info = dict(experience.policy_info)
    info["state"] = {k: v for k, v in info["state"].items() if k != "episodic"}
    with pytest.raises(ValueError, match="agents.train"):
        agent.train(experience._replace(policy_info=info))


def test_continues_bit_for_bit(tmp_path):
    def run():
        environment = bandit()
        agent = episodic_agent(environment)
        history = agents.train(
            agent,
            environment,
            epochs=2,
            steps_per_epoch=2,
            segment_length=5,
            checkpoint_directory=tmp_path,
            verbose=0,
        ).history
        return len(history["loss"]), agent.model.get_weights()

    epochs, whole = run()
    assert epochs == 2
    tasks.go_back(tmp_path, 1)
    epochs, parts = run()
    assert epochs == 1
    for a, b in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_exported_policies_remember(tmp_path):
    environment = bandit()
    agent = episodic_agent(environment)
    saver = policy_saver.PolicySaver(agent.policy, batch_size=None)
    saver.save(str(tmp_path / "policy"))
    loaded = tf.saved_model.load(str(tmp_path / "policy"))
    state = agent.policy.get_initial_state(2)
    expected = state
    time_step = environment.reset()
    for _ in range(2 * (PULLS + 1) + 1):
        found = loaded.action(time_step, state)
        chosen = agent.policy.action(time_step, expected)
        state, expected = found.state, chosen.state
        np.testing.assert_array_equal(found.action, chosen.action)
        time_step = environment.step(chosen.action)
    np.testing.assert_array_equal(filled(state), filled(expected))
    assert filled(state).all()


def test_torsos_may_make_the_context():
    environment = bandit()
    inputs = tf.nest.map_structure(
        lambda s: keras.Input(s.shape, dtype=s.dtype.name),
        environment.observation_spec(),
    )
    code = keras.layers.Dense(2, name="code")(inputs["observation"]["context"])
    torso = keras.Model(inputs, {"features": code, "context": code})
    agent = episodic_agent(environment, torso, key_dim=2)
    state = agent.policy.get_initial_state(2)
    assert state["episodic"]["keys"].shape == (2, CAPACITY, 2)
    chosen = agent.policy.action(environment.reset(), state)
    assert chosen.state["key"].numpy().any()


def test_evaluation_keeps_the_dictionary_too():
    environment = bandit(batch_size=4)
    agent = episodic_agent(environment)
    assert agents.evaluate(agent.policy, environment, 8).returns.shape == (8,)


@pytest.mark.slow
def test_recalls_barcodes():
    """Five arms; the best play without memory has a regret of 1.9."""
    from examples import episodic_recall

    arguments = episodic_recall.parse(["--steps", "2500"])
    run = episodic_recall.train(
        "barcode", "episodic", arguments, seed=0, num_arms=5, num_contexts=5
    )
    assert run["regret"][-1] < 1.0 < run["regret"][0]
