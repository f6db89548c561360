"""TF-Agents' PPOClipAgent and SacAgent beside a default policy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.agents.sac import sac_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from keras_sparse_rl import agents
from tests.agents import tasks

SPEC = {
    "hidden": tf.TensorSpec((3,), tf.float32),
    "seen": tf.TensorSpec((2,), tf.float32),
}
TIME_STEP = ts.time_step_spec(SPEC)


def default_model(action, core=None):
    model = agents.default_policy_model(
        {"seen": SPEC["seen"]}, action, core=core
    )
    for weight in model.trainable_variables:
        weight.assign(keras.random.normal(weight.shape, stddev=0.3, seed=3))
    return model


def ppo(action=tasks.DISCRETE, default="learned", **arguments):
    if default == "learned":
        default = default_model(action)
        arguments.setdefault("default_optimizer", keras.optimizers.SGD(0.1))
    keras.utils.set_random_seed(0)
    model = agents.actor_critic_model(SPEC, action)
    common = {
        "optimizer": tf.keras.optimizers.SGD(0.1),
        "actor_net": agents.KerasNetwork(
            model, SPEC, action, output="policy", squash=False
        ),
        "value_net": agents.KerasNetwork(model, SPEC, output="value"),
        "num_epochs": 2,
        "normalize_observations": False,
        "discount_factor": 0.9,
    }
    if default is None:
        common["normalize_rewards"] = False
        made = ppo_clip_agent.PPOClipAgent(TIME_STEP, action, **common)
    else:
        made = agents.KLRegularizedPPOClipAgent(
            TIME_STEP, action, default, squash=False, **common, **arguments
        )
    made.initialize()
    return made, model


def experience(agent, action, batch=3, time=6):
    generator = np.random.default_rng(0)
    shape = (batch, time)
    observation = {
        key: tf.constant(generator.normal(size=(*shape, *s.shape)), tf.float32)
        for key, s in SPEC.items()
    }
    kinds = np.ones(shape, "int32")
    kinds[:, 0] = 0
    first = tf.nest.map_structure(lambda x: x[:, 0], observation)
    info = agent.collect_policy.action(
        ts.restart(first, batch), agent.collect_policy.get_initial_state(batch)
    ).info
    info = tf.nest.map_structure(
        lambda x: tf.repeat(x[:, None], time, axis=1), info
    )
    if action is tasks.DISCRETE:
        actions = tf.constant(generator.integers(0, 3, shape), tf.int32)
    else:
        actions = tf.constant(
            generator.uniform([-0.9, 0.1], [0.9, 3.9], (*shape, 2)), tf.float32
        )
    return trajectory.Trajectory(
        step_type=tf.constant(kinds),
        observation=observation,
        action=actions,
        policy_info=info,
        next_step_type=tf.ones(shape, tf.int32),
        reward=tf.constant(generator.normal(size=shape), tf.float32),
        discount=tf.ones(shape),
    )


@pytest.mark.parametrize("action", [tasks.DISCRETE, tasks.CONTINUOUS])
def test_ppo_pays_the_divergence_in_return_and_step(action):
    agent, _ = ppo(action, alpha=0.3)
    plain, _ = ppo(action, default=None)
    data = experience(agent, action)
    divergence = agent.divergence(data)
    assert divergence.shape == data.reward.shape
    assert float(tf.reduce_mean(divergence)) > 0.01
    charged = data.replace(reward=data.reward - 0.3 * divergence)
    expected = plain._preprocess(charged).policy_info
    found = agent._preprocess(data).policy_info
    for name in ("return", "advantage"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert (
        (found["return"] != plain._preprocess(data).policy_info["return"])
        .numpy()
        .any()
    )

    steps = ts.TimeStep(
        data.step_type, data.reward, data.discount, data.observation
    )
    log_probability = tf.zeros(data.reward.shape)
    losses = [
        float(
            each.get_loss(
                steps,
                data.action,
                log_probability,
                found["return"],
                found["advantage"],
                data.policy_info["dist_params"],
                tf.ones_like(data.reward),
                tf.constant(0),
                False,
            ).loss
        )
        for each in (agent, plain)
    ]
    step = 0.3 * float(tf.reduce_mean(divergence))
    assert losses[0] - losses[1] == pytest.approx(step, rel=1e-3)


def test_ppo_learns_policy_and_default():
    agent, model = ppo(alpha=0.1, target_period=2)
    default = agent._default._model
    data = experience(agent, tasks.DISCRETE)
    before = model.get_weights(), default.get_weights()
    target = [v.numpy() for v in agent._default._target.values]
    train = tf.function(agent.train)
    train(data)
    for old, now in zip(before, (model, default)):
        moved = [
            (a != b).any() for a, b in zip(old, now.get_weights(), strict=True)
        ]
        assert all(moved)
    for a, b in zip(target, agent._default._target.values):
        np.testing.assert_array_equal(a, b)
    first = float(tf.reduce_mean(agent.divergence(data)))
    train(data)
    for a, b in zip(agent._default._target.values, default.variables):
        np.testing.assert_array_equal(a, b)
    for _ in range(40):
        train(data)
    assert float(tf.reduce_mean(agent.divergence(data))) < first


def test_ppo_restores_a_default_with_memory(tmp_path):
    default = default_model(tasks.DISCRETE, keras.layers.LSTM(4))
    agent, model = ppo(
        default=default, default_optimizer=keras.optimizers.Adam(1e-2)
    )
    data = experience(agent, tasks.DISCRETE)
    path = tf.train.Checkpoint(agent=agent).save(str(tmp_path / "ppo"))
    kept = default.get_weights()
    train = agent.train
    train(data)
    found = model.get_weights(), default.get_weights()
    tf.train.Checkpoint(agent=agent).restore(path)
    for a, b in zip(kept, default.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    train(data)
    for a, b in zip(
        [*found[0], *found[1]],
        [*model.get_weights(), *default.get_weights()],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_ppo_with_uniform_and_frozen_defaults():
    default = default_model(tasks.DISCRETE)
    agent, _ = ppo(default=default, freeze_default=True, alpha=1.0)
    assert default.trainable
    frozen = agent._default._model.get_weights()
    data = experience(agent, tasks.DISCRETE)
    agent.train(data)
    for a, b in zip(frozen, agent._default._model.get_weights()):
        np.testing.assert_array_equal(a, b)
    model = agents.actor_critic_model(SPEC, tasks.DISCRETE)
    uniform = agents.KLRegularizedPPOClipAgent(
        TIME_STEP,
        tasks.DISCRETE,
        optimizer=tf.keras.optimizers.SGD(0.1),
        actor_net=agents.KerasNetwork(
            model, SPEC, tasks.DISCRETE, output="policy"
        ),
        value_net=agents.KerasNetwork(model, SPEC, output="value"),
        normalize_observations=False,
    )
    logits = model(
        {
            "observation": data.observation,
            "is_first": data.step_type == 0,
            "state": {},
        }
    )["outputs"]["policy"]
    p = tf.nn.softmax(logits).numpy()
    expected = np.log(3) + (p * np.log(p)).sum(-1)
    np.testing.assert_allclose(uniform.divergence(data), expected, atol=1e-5)


def sac(default="learned", **arguments):
    action = tasks.CONTINUOUS
    if default == "learned":
        default = default_model(action)
    keras.utils.set_random_seed(0)
    actor = agents.build_model(SPEC, {"policy": keras.layers.Dense(4)})
    critic = agents.build_model(
        (SPEC, action), {"value": keras.layers.Dense(1)}
    )
    common = {
        "actor_network": agents.KerasNetwork(
            actor, SPEC, action, output="policy"
        ),
        "critic_network": agents.KerasNetwork(
            critic, (SPEC, action), output="value"
        ),
        "gamma": 0.9,
        "reward_scale_factor": 2.0,
    }
    for name in ("actor", "critic", "alpha"):
        common[f"{name}_optimizer"] = tf.keras.optimizers.SGD(0.05)
    if default is None:
        made = sac_agent.SacAgent(TIME_STEP, action, **common)
    else:
        made = agents.KLRegularizedSacAgent(
            TIME_STEP,
            action,
            default,
            keras.optimizers.SGD(0.05),
            **common,
            **arguments,
        )
    made.initialize()
    return made, actor


def transitions():
    generator = np.random.default_rng(0)

    def steps():
        return ts.TimeStep(
            tf.ones((5,), tf.int32),
            tf.constant(generator.normal(size=5), tf.float32),
            tf.constant(generator.integers(0, 2, 5), tf.float32),
            {
                key: tf.constant(
                    generator.normal(size=(5, *s.shape)), tf.float32
                )
                for key, s in SPEC.items()
            },
        )

    action = tf.constant(
        generator.uniform([-0.9, 0.1], [0.9, 3.9], (5, 2)), tf.float32
    )
    return steps(), action, steps()


def test_sac_pays_the_divergence_in_target_and_step():
    agent, _ = sac(default_alpha=0.3)
    plain, _ = sac(default=None)
    now, action, after = transitions()
    divergence = agent.divergence(after)
    seen = []

    def errors(targets, predictions):
        seen.append(targets.numpy())
        return (targets - predictions) ** 2

    for each in (agent, plain):
        tf.random.set_seed(0)  # both draw the same next actions
        each.critic_loss(now, action, after, errors, 0.9, 2.0)
    expected = 0.3 * 0.9 * after.discount * divergence
    assert float(tf.reduce_max(expected)) > 0.01
    np.testing.assert_allclose(seen[2] - seen[0], expected, atol=1e-4)
    losses = []
    for each in (agent, plain):
        tf.random.set_seed(0)
        losses.append(float(each.actor_loss(now)))
    step = 0.3 * float(tf.reduce_mean(agent.divergence(now)))
    assert losses[0] - losses[1] == pytest.approx(step, rel=1e-3)


def test_sac_learns_policy_and_default():
    agent, actor = sac(default_alpha=0.1)
    default = agent._default._model
    data = experience(agent, tasks.CONTINUOUS, time=2)
    before = actor.get_weights(), default.get_weights()
    train = tf.function(agent.train)
    train(data)
    for old, now in zip(before, (actor, default)):
        for a, b in zip(old, now.get_weights(), strict=True):
            assert (a != b).any()


def test_mistakes():
    with pytest.raises(ValueError, match="`normalize_rewards`"):
        ppo(normalize_rewards=True)
    with pytest.raises(ValueError, match="`alpha`"):
        ppo(alpha=-1.0)
    with pytest.raises(ValueError, match="does not fit `action_spec`"):
        ppo(default=default_model(tasks.CONTINUOUS), freeze_default=True)
    with pytest.raises(TypeError, match="`default_optimizer`"):
        ppo(default_optimizer="adam")
    with pytest.raises(ValueError, match="no memory"):
        sac(default_model(tasks.CONTINUOUS, keras.layers.LSTM(3)))
    with pytest.raises(ValueError, match="freeze_default=True to keep"):
        ppo(default=default_model(tasks.DISCRETE))
    with pytest.raises(ValueError, match="either learned or frozen"):
        sac(freeze_default=True)
    with pytest.raises(ValueError, match="uniform"):
        sac_default = agents.KLRegularizedPPOClipAgent
        model = agents.actor_critic_model(SPEC, tasks.CONTINUOUS)
        sac_default(
            TIME_STEP,
            tasks.CONTINUOUS,
            optimizer=tf.keras.optimizers.SGD(0.1),
            actor_net=agents.KerasNetwork(
                model, SPEC, tasks.CONTINUOUS, output="policy"
            ),
            value_net=agents.KerasNetwork(model, SPEC, output="value"),
            normalize_observations=False,
        )
