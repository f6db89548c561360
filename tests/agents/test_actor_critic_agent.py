"""The agent's losses against NumPy, its hooks, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl.agents import LossTerm
from tests.agents import tasks


def reference(agent, data, extra_reward=0.0):
    """Losses by the equations, step by step, in float64."""
    state = tf.nest.map_structure(lambda x: x[:, 0], data.policy_info["state"])
    outputs = agent.model(
        {
            "observation": data.observation,
            "is_first": data.step_type == tasks.FIRST,
            "state": state,
        }
    )["outputs"]
    value = np.array(outputs["value"], float)[..., 0]
    logits = np.array(outputs["policy"], float)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    batch, time = value.shape[0], value.shape[1] - 1
    kinds = data.step_type.numpy()
    discount = agent._discount * data.discount.numpy().astype(float)
    reward = data.reward.numpy().astype(float) + extra_reward
    behaviour = data.policy_info["log_probability"].numpy()
    sums = {"policy": 0.0, "value": 0.0, "entropy": 0.0}
    count = 0
    for b in range(batch):
        target = value[b, time]  # v_s of the step reached
        for t in reversed(range(time)):
            if kinds[b, t] == tasks.LAST:
                target = value[b, t]
                continue
            after = value[b, t + 1]
            if kinds[b, t + 1] == tasks.LAST:
                target = after
            chosen = log_p[b, t, data.action.numpy()[b, t]]
            rho = min(1.0, np.exp(chosen - behaviour[b, t]))
            error = rho * (reward[b, t] + discount[b, t] * after - value[b, t])
            advantage = rho * (
                reward[b, t] + discount[b, t] * target - value[b, t]
            )
            target = (
                value[b, t]
                + error
                + discount[b, t] * agent._trace_decay * rho * (target - after)
            )
            sums["policy"] -= advantage * chosen
            sums["value"] += 0.25 * (target - value[b, t]) ** 2
            sums["entropy"] += 0.01 * (np.exp(log_p[b, t]) * log_p[b, t]).sum()
            count += 1
    return {name: total / count for name, total in sums.items()}


@pytest.mark.parametrize("core", ["none", "GTrXL"])
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_equal_the_equations(core, seed):
    agent = tasks.agent(core, discount=0.9, trace_decay=0.8)
    data = tasks.experience(agent, seed=seed)
    found = agent.loss(data).extra
    for name, expected in reference(agent, data).items():
        assert float(found[name]) == pytest.approx(expected, rel=1e-4)


def test_segments_start_from_the_memory_that_acted():
    agent = tasks.agent("LSTM")
    data = tasks.experience(agent)
    data = data._replace(
        step_type=tf.ones_like(data.step_type),
        next_step_type=tf.ones_like(data.step_type),
    )
    other = tf.nest.map_structure(lambda x: x + 0.5, data.policy_info["state"])
    moved = data._replace(policy_info={**data.policy_info, "state": other})
    assert float(agent.loss(data).loss) != float(agent.loss(moved).loss)


class Bonus(LossTerm):
    def reward(self, segment):
        return tf.ones_like(segment.reward_t)


class Push(LossTerm):
    """Pushes the first logit up; sees all that a term is promised."""

    def loss(self, segment):
        batch, time = segment.reward_t.shape
        assert segment.is_first.shape == (batch, time + 1)
        assert segment.value.shape == (batch, time + 1)
        for x in (
            segment.action,
            segment.discount_t,
            segment.is_valid,
            segment.is_last_t,
            segment.log_probability,
            segment.behaviour_log_probability,
            segment.vtrace.advantage_tm1,
            segment.distribution.entropy(),
        ):
            assert x.shape == (batch, time)
        return -segment.outputs["policy"][:, :-1, 0]


def test_rewards_of_loss_terms_enter_the_return():
    agent = tasks.agent(loss_terms=[Bonus(0.5)])
    data = tasks.experience(agent)
    found = agent.loss(data).extra
    for name, expected in reference(agent, data, 0.5).items():
        assert float(found[name]) == pytest.approx(expected, rel=1e-4)


def test_losses_of_loss_terms_change_the_policy():
    agent = tasks.agent(
        loss_terms=[Push(100.0, name="push")],
        optimizer=keras.optimizers.SGD(0.01),
    )
    data = tasks.experience(agent)

    def share():
        time_step = ts.restart(data.observation[:, 0], 3)
        step = agent.collect_policy.distribution(time_step, ())
        return step.action.probs_parameter().numpy()[:, 0].mean()

    before = share()
    for _ in range(5):
        info = agent.train(data)
    assert share() > before + 0.2
    assert "push" in info.extra


def test_coefficients_may_follow_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [2.0, 0.0]
    )
    agent = tasks.agent(loss_terms=[Push(schedule)])
    data = tasks.experience(agent)
    found = [float(agent.train(data).extra["Push"]) for _ in range(3)]
    assert found[0] != 0 and found[2] == 0


def test_gradients_of_all_terms_can_be_combined_otherwise():
    seen = {}

    class PolicyAlone(agents.ActorCriticAgent):
        def combine_gradients(self, per_term_gradients):
            seen.update(per_term_gradients)
            return per_term_gradients["policy"], {"terms": tf.constant(4.0)}

    spec = ts.time_step_spec(tasks.OBSERVATION)
    agent = PolicyAlone(
        spec,
        tasks.DISCRETE,
        tasks.model(),
        keras.optimizers.SGD(0.1),
        loss_terms=[Push()],
    )
    data = tasks.experience(agent)
    value_kernel = agent.model.layers[-1].kernel.numpy()
    info = agent.train(data)
    assert float(info.extra["terms"]) == 4
    assert list(seen) == ["policy", "value", "entropy", "Push"]
    np.testing.assert_array_equal(agent.model.layers[-1].kernel, value_kernel)


def test_the_default_combination_is_the_gradient_of_the_sum():
    agent = tasks.agent("LSTM", loss_terms=[Push()])
    data = tasks.experience(agent)
    variables = agent.model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        info = agent.loss(data, training=True)
    expected = tape.gradient(info.loss, variables)
    found, figures = agent.combine_gradients(
        {k: tape.gradient(v, variables) for k, v in info.extra.items()}
    )
    assert figures == {}
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_xla_learns_the_same():
    found = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        agent = tasks.agent("LSTM", optimizer=keras.optimizers.SGD(0.1))
        data = tasks.experience(agent)
        tf.function(agent.train, jit_compile=jit_compile)(data)
        found.append(agent.model.get_weights())
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_weights_count_trajectories():
    agent = tasks.agent()
    data = tasks.experience(agent)
    alone = tf.nest.map_structure(lambda x: x[1:2], data)
    weighted = agent.loss(data, weights=tf.constant([0.0, 1.0, 0.0]))
    steps = (data.step_type.numpy()[:, :-1] != tasks.LAST).sum(1)
    expected = float(agent.loss(alone).loss) * steps[1] / steps.sum()
    assert float(weighted.loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("squash", [True, False])
def test_continuous_actions_are_learned(squash):
    agent = tasks.agent(
        action_spec=tasks.CONTINUOUS,
        optimizer=keras.optimizers.Adam(0.02),
        squash=squash,
        discount=0.0,
        entropy_coefficient=0.0,
    )
    goal = np.array([0.5, 3.0], np.float32)
    time_step = ts.restart(tf.zeros((256, 3)), 256)
    train = tf.function(agent.train)
    act = tf.function(agent.collect_policy.action)
    for _ in range(150):
        step = act(time_step)
        reward = -tf.reduce_sum((step.action - goal) ** 2, -1)

        def twice(x):
            return tf.stack([x, tf.zeros_like(x)], axis=1)

        train(
            tasks.trajectory.Trajectory(
                step_type=tf.ones((256, 2), tf.int32),
                observation=tf.zeros((256, 2, 3)),
                action=twice(step.action),
                policy_info={
                    "log_probability": twice(step.info["log_probability"]),
                    "state": (),
                },
                next_step_type=tf.ones((256, 2), tf.int32),
                reward=twice(reward),
                discount=tf.ones((256, 2)),
            )
        )
    found = agent.policy.action(ts.restart(tf.zeros((1, 3)), 1)).action
    np.testing.assert_allclose(found[0], goal, atol=0.3)


def test_policies_seeds_are_variables():
    agent = tasks.agent(seed=3)
    time_step = ts.restart(tf.random.normal((64, 3)), 64)
    policy = agent.collect_policy
    start = policy._seed.numpy()
    first = [policy.action(time_step).action.numpy() for _ in range(2)]
    assert (first[0] != first[1]).any()
    policy._seed.assign(start)
    again = [policy.action(time_step).action.numpy() for _ in range(2)]
    np.testing.assert_array_equal(first, again)
    greedy = agent.policy.action(time_step).action
    np.testing.assert_array_equal(greedy, agent.policy.action(time_step).action)


def test_policy_saver(tmp_path):
    agent = tasks.agent("GTrXL")
    assert len(agent.policy.variables()) > len(agent.model.trainable_variables)
    policy_saver.PolicySaver(agent.policy, batch_size=None).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = ts.restart(tf.random.normal((5, 3)), 5)
    state = agent.policy.get_initial_state(5)
    found = loaded.action(time_step, loaded.get_initial_state(5))
    expected = agent.policy.action(time_step, state)
    np.testing.assert_array_equal(found.action, expected.action)
    for a, b in zip(
        tf.nest.flatten(found.state), tf.nest.flatten(expected.state)
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing_and_is_named():
    class Broken(LossTerm):
        def loss(self, segment):
            return tf.math.log(-tf.abs(segment.value[:, :-1]))

    class BrokenGradient(LossTerm):
        def loss(self, segment):  # 0, with a gradient of 0 * infinity
            return tf.sqrt(tf.nn.relu(-1 - tf.abs(segment.value[:, :-1])))

    for term in (Broken(), BrokenGradient()):
        agent = tasks.agent(loss_terms=[term])
        data = tasks.experience(agent)
        before = [v.numpy() for v in agent.model.variables]
        info = tf.function(agent.train)(data)
        assert not bool(info.extra["finite"])
        for a, b in zip(before, agent.model.variables):
            np.testing.assert_array_equal(a, b)
        assert agent.non_finite_terms(data) == [term.name]


def test_bad_arguments():
    spec = ts.time_step_spec(tasks.OBSERVATION)
    with pytest.raises(TypeError, match="`optimizer`"):
        tasks.agent(optimizer="adam")
    for arguments, words in (
        ({"discount": 1.1}, "`discount`"),
        ({"trace_decay": -0.1}, "`trace_decay`"),
        ({"value_coefficient": -1.0}, "`value_coefficient`"),
        ({"entropy_coefficient": np.nan}, "`entropy_coefficient`"),
        ({"loss_terms": [3]}, "`loss_terms`"),
        ({"loss_terms": [Push(), Push()]}, "names"),
    ):
        with pytest.raises(ValueError, match=words):
            tasks.agent(**arguments)
    with pytest.raises(ValueError, match="`coefficient`"):
        Push(float("inf"))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    wrong_size = tasks.model(action_spec=tasks.CONTINUOUS)
    adam = keras.optimizers.Adam()
    for model, words in (
        (plain, "network contract"),
        (wrong_size, "does not fit `action_spec`"),
    ):
        with pytest.raises(ValueError, match=words):
            agents.ActorCriticAgent(spec, tasks.DISCRETE, model, adam)
