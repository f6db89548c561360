"""The agent with a default policy: who sees, learns and is drawn to what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents import LossTerm
from keras_sparse_rl.agents.action_distribution import action_entropy
from keras_sparse_rl.losses import marginal_policy
from tests.agents import tasks
from tests.agents.test_actor_critic_agent import reference

SPEC = {
    "hidden": tf.TensorSpec((3,), tf.float32),
    "kind": tasks.BoundedTensorSpec((), tf.int32, 0, 3),
    "seen": tf.TensorSpec((2,), tf.float32),
}


def default_model(keys=("kind", "seen"), core="none", action=tasks.DISCRETE):
    return agents.default_policy_model(
        {key: SPEC[key] for key in keys}, action, core=tasks.CORES[core]()
    )


def new_agent(
    default="learned",
    core="none",
    action=tasks.DISCRETE,
    optimizer=None,
    policy_keys=tuple(SPEC),
    keys=("kind", "seen"),
    **arguments,
):
    keras.utils.set_random_seed(0)
    model = agents.actor_critic_model(
        {key: SPEC[key] for key in policy_keys},
        action,
        core=tasks.CORES[core](),
    )
    if default == "learned":
        default = default_model(keys, core, action)
        arguments.setdefault("default_optimizer", keras.optimizers.SGD(0.1))
    return agents.KLRegularizedAgent(
        ts.time_step_spec(SPEC),
        action,
        model,
        optimizer or keras.optimizers.SGD(0.1),
        default,
        **arguments,
    )


def experience(agent, batch=3, time=7, seed=0):
    data = tasks.experience(agent, batch, time, seed)
    generator = np.random.default_rng(seed)
    shape = (batch, time + 1)
    return data._replace(
        observation={
            "hidden": data.observation,
            "kind": tf.constant(generator.integers(0, 4, shape), tf.int32),
            "seen": tf.constant(generator.normal(size=(*shape, 2)), tf.float32),
        }
    )


def logits_of(agent, data, name):
    state = tf.nest.map_structure(lambda x: x[:, 0], data.policy_info["state"])
    found = agent.model(
        {
            "observation": data.observation,
            "is_first": data.step_type == tasks.FIRST,
            "state": state,
        }
    )
    return np.array(found["outputs"][name], float)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def move(model, by=0.5):
    """Far from nearly equal probabilities."""
    generator = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign_add(by * generator.normal(size=weight.shape))


@pytest.mark.parametrize("core", ["none", "LSTM"])
def test_divergence_enters_return_and_step(core):
    agent = new_agent(
        core=core,
        alpha=0.3,
        discount=0.9,
        trace_decay=0.8,
        entropy_coefficient=0.01,  # that of `reference`
    )
    move(agent.model)
    agent._target.copy()
    data = experience(agent)
    found = agent.loss(data).extra
    p, q = (softmax(logits_of(agent, data, k)) for k in ("policy", "default"))
    divergence = (p * np.log(p / q)).sum(-1)
    expected = reference(agent, data, -0.3 * divergence)
    valid = data.step_type.numpy()[:, :-1] != tasks.LAST
    expected["default"] = divergence[:, :-1][valid].mean()
    expected["kl"] = 0.3 * expected["default"]
    assert expected["kl"] > 0.01
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-3)


def test_what_is_hidden_has_no_effect_and_no_gradient():
    agent = new_agent()
    move(agent.model)
    data = experience(agent)
    changed = data._replace(
        observation={
            **data.observation,
            "hidden": data.observation["hidden"] + 7.0,
        }
    )
    np.testing.assert_array_equal(
        logits_of(agent, data, "default"), logits_of(agent, changed, "default")
    )
    assert (
        logits_of(agent, data, "policy") != logits_of(agent, changed, "policy")
    ).any()
    observation = data.observation
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(observation)
        found = agent.model(
            {
                "observation": observation,
                "is_first": data.step_type == tasks.FIRST,
                "state": {},
            }
        )["outputs"]
    zero = tf.UnconnectedGradients.ZERO
    for name, output in (("default", "default"), ("policy", "policy")):
        gradients = tape.gradient(
            found[output],
            [observation["hidden"], observation["seen"]],
            unconnected_gradients=zero,
        )
        assert bool(tf.reduce_any(gradients[1] != 0))
        assert bool(tf.reduce_any(gradients[0] != 0)) == (name == "policy")


def test_each_loss_trains_its_own_part():
    agent = new_agent(alpha=1.0)
    move(agent.model)
    data = experience(agent)
    default = {id(v) for v in agent.default_model.trainable_variables}
    variables = agent.model.trainable_variables
    assert 0 < len(default) < len(variables)
    with tf.GradientTape(persistent=True) as tape:
        losses = agent.loss(data, training=True).extra
    for name, loss in losses.items():
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables), strict=True
        ):
            if (id(variable) in default) != (name == "default"):
                assert gradient is None
    (first, others), (second, own) = agent.optimizers
    assert first is agent.model.optimizer and second is not first
    assert {id(v) for v in own} == default
    assert len(others) + len(own) == len(variables)


def test_learned_default_is_the_marginal_of_the_policy():
    agent = new_agent(
        keys=("kind",),
        optimizer=keras.optimizers.SGD(0.0),
        default_optimizer=keras.optimizers.Adam(0.03),
    )
    move(agent.model, 1.0)
    data = experience(agent, batch=8, time=20)
    train = tf.function(agent.train)
    for _ in range(400):
        train(data)
    p, q = (softmax(logits_of(agent, data, k)) for k in ("policy", "default"))
    steps = np.zeros(p.shape[:2], bool)
    steps[:, :-1] = data.step_type.numpy()[:, :-1] != tasks.LAST
    kind = data.observation["kind"].numpy()[steps]
    expected = marginal_policy(p[steps], kind)[kind]
    assert 0.5 * np.abs(expected - q[steps]).sum(-1).max() <= 1e-3
    assert np.abs(p[steps] - expected).max() > 0.1


class Entropy(LossTerm):
    def reward(self, segment):
        return action_entropy(segment.distribution) - np.log(3)

    def loss(self, segment):
        return -action_entropy(segment.distribution)


def test_uniform_default_is_entropy_regularisation():
    found = []
    data = None
    for make in ("uniform", "entropy"):
        if make == "uniform":
            agent = new_agent(None, alpha=0.2, entropy_coefficient=0.0)
        else:
            keras.utils.set_random_seed(0)
            agent = agents.ActorCriticAgent(
                ts.time_step_spec(SPEC),
                tasks.DISCRETE,
                agents.actor_critic_model(SPEC, tasks.DISCRETE),
                keras.optimizers.SGD(0.1),
                loss_terms=[Entropy(0.2)],
                entropy_coefficient=0.0,
            )
        data = data or experience(agent)
        for _ in range(5):
            agent.train(data)
        found.append(agent.model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_policy_is_drawn_to_the_target_copy():
    agent = new_agent(target_period=3, alpha=0.5)
    data = experience(agent)
    copies = []
    for _ in range(7):
        agent.train(data)
        same = all(
            np.array_equal(a, b)
            for a, b in zip(
                agent._target.values, agent.default_model.variables, strict=True
            )
        )
        copies.append(same)
    assert copies == [False, False, True, False, False, True, False]
    before = float(agent.loss(data).extra["kl"])
    move(agent.default_model)
    assert float(agent.loss(data).extra["kl"]) == before
    agent._target.copy()
    assert float(agent.loss(data).extra["kl"]) != before


def test_a_learned_default_is_transferred_frozen():
    first = new_agent(policy_keys=("seen",))
    move(first.default_model)
    first.default_model.layers[-1].trainable = False
    flags = [x.trainable for x in first.default_model.layers]
    second = new_agent(first.default_model, freeze_default=True, alpha=5.0)
    data = experience(second)
    before = first.default_model.get_weights()
    own = {id(v) for v in second.default_model.variables}
    assert not own & {id(v) for v in second.model.trainable_variables}
    # What belongs to another agent stays as trainable as it was.
    assert first.default_model.trainable
    assert [x.trainable for x in first.default_model.layers] == flags
    divergence = []
    for _ in range(30):
        divergence.append(float(second.train(data).extra["kl"]))
    for model in (first.default_model, second.default_model):
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert divergence[-1] < 0.5 * divergence[0]
    assert "default" not in second.loss(data).extra
    time_step = ts.restart(
        tf.nest.map_structure(lambda x: x[:, 0], data.observation), 3
    )
    state = second.default_policy.get_initial_state(3)
    found = second.default_policy.distribution(time_step, state).action
    np.testing.assert_allclose(
        found.logits_parameter(),
        logits_of(second, data, "default")[:, 0],
        atol=1e-5,
    )


def test_alpha_may_follow_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [1.0, 0.0]
    )
    agent = new_agent(alpha=schedule)
    move(agent.model)
    agent._target.copy()
    data = experience(agent)
    found = [float(agent.train(data).extra["kl"]) for _ in range(3)]
    assert found[0] > 0 and found[2] == 0


@pytest.mark.parametrize("squash", [True, False])
def test_continuous_actions(squash):
    agent = new_agent(
        action=tasks.CONTINUOUS,
        squash=squash,
        alpha=20.0,
        optimizer=keras.optimizers.Adam(0.01),
        default_optimizer=keras.optimizers.SGD(0.0),
        keys=(),
    )
    move(agent.default_model)
    agent._target.copy()
    data = experience(agent)
    p, q = (logits_of(agent, data, k) for k in ("policy", "default"))

    def parts(x):
        return x[..., :2], np.log1p(np.exp(x[..., 2:] + 0.5413)) + 1e-4

    (m, s), (m0, s0) = parts(p), parts(q)
    each = np.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5
    valid = data.step_type.numpy()[:, :-1] != tasks.LAST
    expected = 20 * each.sum(-1)[:, :-1][valid].mean()
    train = tf.function(agent.train)
    before = float(train(data).extra["kl"])
    assert before == pytest.approx(expected, rel=1e-3)
    for _ in range(60):
        info = train(data)
    assert float(info.extra["kl"]) < 0.2 * before


def rooms_agent(environment, core, **arguments):
    observation, action = (
        environment.observation_spec(),
        environment.action_spec(),
    )
    seen = {key: observation[key] for key in ("previous_action", "walls")}
    return agents.KLRegularizedAgent(
        environment.time_step_spec(),
        action,
        agents.actor_critic_model(
            observation, action, core=tasks.CORES[core]()
        ),
        keras.optimizers.Adam(3e-3),
        agents.default_policy_model(seen, action, core=tasks.CORES[core]()),
        keras.optimizers.Adam(3e-3),
        target_period=2,
        **arguments,
    )


@pytest.mark.slow  # in the suite: test_compositions
def test_training_resumes_bit_for_bit(tmp_path):
    def run():
        keras.utils.set_random_seed(0)
        rooms = environments.GoToTarget(size=5, num_targets=2, batch_size=3)
        agent = rooms_agent(rooms, "LSTM", alpha=0.1)
        history = agents.train(
            agent,
            rooms,
            epochs=2,
            steps_per_epoch=3,
            segment_length=4,
            checkpoint_directory=tmp_path,
            verbose=0,
        )
        return agent, history.epoch

    whole, epochs = run()
    assert epochs == [0, 1]
    tasks.go_back(tmp_path, 1)
    parts, epochs = run()
    assert epochs == [1]
    for a, b in zip(
        [*whole.model.weights, *whole.other_variables],
        [*parts.model.weights, *parts.other_variables],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    # A copy of step 6 of 6; another default than at first.
    for a, b in zip(
        whole.other_variables, whole.default_model.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_policy_saver(tmp_path):
    rooms = environments.GoToTarget(size=5, num_targets=2, batch_size=3)
    agent = rooms_agent(rooms, "LSTM")
    policy_saver.PolicySaver(agent.policy, batch_size=None).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = rooms.reset()
    state = agent.policy.get_initial_state(3)
    found = loaded.action(time_step, loaded.get_initial_state(3))
    expected = agent.policy.action(time_step, state)
    np.testing.assert_array_equal(found.action, expected.action)
    agent.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(
        agent.model.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_bad_arguments():
    policy_model = agents.actor_critic_model(SPEC, tasks.DISCRETE)
    other = {"lamp": tf.TensorSpec((2,), tf.float32)}
    adam = keras.optimizers.Adam(1e-3)
    broken, resting = default_model(), default_model()
    resting.trainable = False
    broken.trainable_variables[-1].assign([np.nan, 0.0, 0.0])
    for arguments, words in (
        ({"alpha": -0.1}, "`alpha`"),
        ({"alpha": lambda step: -1.0}, r"alpha\(0\)"),
        ({"target_period": 0}, "`target_period`"),
        (
            {"default": agents.default_policy_model(other, tasks.DISCRETE)},
            "`default_model` sees what the observation lacks",
        ),
        (
            {"default": default_model(action=tasks.CONTINUOUS)},
            "does not fit `action_spec`",
        ),
        ({"default": broken}, "not finite"),
        ({"default": keras.Sequential()}, "`default_model` must be"),
        ({"default": None, "default_optimizer": adam}, "There is no default"),
        ({"default": None, "freeze_default": True}, "There is no default"),
        ({"default": default_model()}, "freeze_default=True to keep"),
        (
            {"freeze_default": True, "default_optimizer": adam},
            "either learned or frozen",
        ),
        (
            {"default": resting, "default_optimizer": adam},
            "no variable of `default_model` is trainable",
        ),
        (
            {
                "default": default_model(),
                "optimizer": adam,
                "default_optimizer": adam,
            },
            "two objects",
        ),
        ({"default": None, "action": tasks.CONTINUOUS}, "uniform"),
    ):
        with pytest.raises(ValueError, match=words):
            new_agent(**arguments)
    with pytest.raises(TypeError, match="`default_optimizer`"):
        new_agent(default_model(), default_optimizer="adam")
    with pytest.raises(ValueError, match="`model` sees"):
        agents.KLRegularizedAgent(
            ts.time_step_spec(other), tasks.DISCRETE, policy_model, adam
        )
