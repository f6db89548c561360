"""Mixtures of policies, what they become at the ends, and curricula."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.specs import BoundedTensorSpec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from tests.agents import tasks
from tests.same_state import assert_same_state

SIMPLE = agents.SimplePolicy("simple", actions=[2, 0])
FORWARD = agents.SimplePolicy("forward", memory=False)


def dense(model):
    return [x for x in model.layers if isinstance(x, keras.layers.Dense)]


def new_agent(
    policies=(SIMPLE,),
    alphas=(0.5, 0.5),
    core="none",
    action_spec=tasks.DISCRETE,
    optimizer=None,
    **arguments,
):
    keras.utils.set_random_seed(0)
    model = agents.mix_and_match_model(
        tasks.OBSERVATION, action_spec, policies, core=tasks.CORES[core]()
    )
    return agents.MixAndMatchAgent(
        ts.time_step_spec(tasks.OBSERVATION),
        action_spec,
        model,
        optimizer or keras.optimizers.Adam(1e-2, global_clipnorm=1.0),
        policies,
        alphas,
        **arguments,
    )


def plain_agent(agent, **arguments):
    """An `ActorCriticAgent` with the same weights on a copy of the model."""
    model = keras.models.clone_model(agent.model)
    model.set_weights(agent.model.get_weights())
    return agents.ActorCriticAgent(
        ts.time_step_spec(tasks.OBSERVATION),
        agent.action_spec,
        model,
        keras.optimizers.Adam(1e-2, global_clipnorm=1.0),
        **arguments,
    )


def softmax(x):
    x = np.exp(np.asarray(x, "float64"))
    return x / x.sum(-1, keepdims=True)


def outputs_of(agent, observation):
    length = len(observation)
    return agent.model(
        {
            "observation": observation[:, None],
            "is_first": tf.ones((length, 1), tf.bool),
            "state": agent.policy.get_initial_state(length),
        }
    )["outputs"]


def test_the_mixture_acts_and_learns():
    agent = new_agent(alphas=[0.3, 0.7])
    for layer in agent.model.layers:  # far from equal probabilities
        for weight in layer.trainable_weights:
            weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    observation = tf.random.stateless_normal((1, 3), [0, 1])
    outputs = outputs_of(agent, observation)
    simple = softmax(outputs["simple"][0, 0])
    expected = 0.7 * softmax(outputs["policy"][0, 0])
    expected += 0.3 * np.array([simple[1], 0.0, simple[0]])
    many = ts.restart(tf.repeat(observation, 20_000, 0), 20_000)
    step = agent.collect_policy.action(many)
    share = np.bincount(step.action.numpy(), minlength=3) / 20_000
    np.testing.assert_allclose(share, expected, atol=0.015)
    np.testing.assert_allclose(
        step.info["log_probability"],
        np.log(expected)[step.action.numpy()],
        rtol=1e-4,
    )
    distribution = agent.collect_policy.distribution(many).action
    entropy = -(expected * np.log(expected)).sum()
    assert float(distribution.entropy()[0]) == pytest.approx(entropy, rel=1e-4)
    # The policy that counts is the last alone.
    greedy = agent.policy.action(many).action.numpy()
    assert set(greedy) == {int(np.argmax(outputs["policy"][0, 0]))}


def test_matching_is_reported_as_the_equation_says():
    agent = new_agent(alphas=[0.3, 0.7], matching_coefficient=2.0)
    data = tasks.experience(agent)
    outputs = agent.model(
        {
            "observation": data.observation,
            "is_first": data.step_type == tasks.FIRST,
            "state": {},
        }
    )["outputs"]
    p, q = softmax(outputs["simple"]), softmax(outputs["policy"])[..., [2, 0]]
    each = (p * np.log(p / q)).sum(-1)[:, :-1]
    valid = data.step_type.numpy()[:, :-1] != tasks.LAST
    found = float(agent.loss(data).extra["matching"])
    assert found == pytest.approx(2 * 0.3 * each[valid].mean(), rel=1e-4)


@pytest.mark.parametrize(
    "core, policies, action_spec",
    [
        ("none", (SIMPLE,), tasks.DISCRETE),
        ("none", (agents.SimplePolicy("simple"),), tasks.CONTINUOUS),
        ("LSTM", (FORWARD, SIMPLE), tasks.DISCRETE),
    ],
    ids=["forward", "continuous", "three, recurrent"],
)
def test_at_the_end_the_last_policy_is_a_plain_agent_bit_for_bit(
    core, policies, action_spec
):
    last = [0.0] * len(policies) + [1.0]
    agent = new_agent(policies, last, core, action_spec)
    plain = plain_agent(agent)
    data = tasks.experience(agent)
    found, expected = (
        x.collect_policy.sample(
            ts.restart(data.observation[:, 0], 3),
            x.collect_policy.get_initial_state(3),
            tf.constant([1, 2]),
        )
        for x in (agent, plain)
    )
    np.testing.assert_array_equal(found.action, expected.action)
    # TensorFlow Probability remembers what it has squashed, we do not.
    atol = 0 if action_spec.dtype.is_integer else 1e-5
    np.testing.assert_allclose(
        found.info["log_probability"],
        expected.info["log_probability"],
        rtol=0,
        atol=atol,
    )
    for trained in (agent, plain):
        step = tf.function(trained.train)
        for _ in range(2):
            step(data)
    assert_same_state(agent.model, plain.model)


@pytest.mark.parametrize("alphas", [[1.0, 0.0], [0.0, 1.0]])
def test_finite_at_the_ends(alphas):
    agent = new_agent(alphas=alphas)
    data = tasks.experience(agent)  # with actions the simple one lacks
    info = agent.train(data)
    assert bool(info.extra["finite"])
    assert np.isfinite(float(info.loss))


def test_matching_alone_brings_the_last_policy_to_the_simple_one():
    agent = new_agent(
        alphas=[1.0, 0.0],
        matching_coefficient=1.0,
        optimizer=keras.optimizers.Adam(0.05),
        entropy_coefficient=0.0,
        discount=0.0,
    )
    head = next(x for x in dense(agent.model) if x.units == 2)
    head.bias.assign([2.0, 0.0])
    data = tasks.experience(agent, batch=8)
    data = data._replace(reward=tf.zeros_like(data.reward))
    step = tf.function(agent.train)
    for _ in range(100):
        step(data)
    outputs = outputs_of(agent, data.observation[:, 0])
    p, q = softmax(outputs["simple"]), softmax(outputs["policy"])
    assert np.abs(q[..., [2, 0]] - p).max() < 0.1
    assert q[..., 1].max() < 0.05


def test_continuous_mixtures_have_the_mixtures_density():
    agent = new_agent(
        (agents.SimplePolicy("simple"),), [0.25, 0.75], "none", tasks.CONTINUOUS
    )
    observation = tf.zeros((4000, 3))
    outputs = outputs_of(agent, observation)
    parts = [
        agents.action_distribution(outputs[n][:, 0], tasks.CONTINUOUS)
        for n in ("simple", "policy")
    ]
    step = agent.collect_policy.action(ts.restart(observation, 4000))
    each = [np.exp(p.log_prob(step.action).numpy()) for p in parts]
    np.testing.assert_allclose(
        step.info["log_probability"],
        np.log(0.25 * each[0] + 0.75 * each[1]),
        rtol=1e-3,
        atol=1e-4,
    )
    data = tasks.experience(agent)
    loss = agent.loss(data).extra
    assert np.isfinite(float(loss["matching"])) and float(loss["matching"]) > 0
    # A share is how often a part draws: the parts far apart tell.
    heads = [x for x in dense(agent.model) if x.units == 4]
    for head, place in zip(heads, (3.0, -3.0)):
        head.bias.assign([place, 0, -5.0, -5.0])
    drawn = agent.collect_policy.action(ts.restart(observation, 4000)).action
    share = (drawn.numpy()[:, 0] > 0).mean()
    assert min(abs(share - 0.25), abs(share - 0.75)) < 0.03


def test_schedules():
    schedule = agents.MixtureSchedule(3, start=2, end=6)
    found = [schedule(step).numpy() for step in (0, 2, 3, 4, 5, 6, 9)]
    expected = [
        [1, 0, 0],
        [1, 0, 0],
        [0.5, 0.5, 0],
        [0, 1, 0],
        [0, 0.5, 0.5],
        [0, 0, 1],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for step in np.linspace(0, 8, 50):
        agent_shares = schedule(step).numpy()
        assert agent_shares.min() >= 0
        assert agent_shares.sum() == pytest.approx(1, abs=1e-6)


def test_shares_move_by_a_schedule_or_by_hand():
    agent = new_agent(alphas=agents.MixtureSchedule(2, 1, 3))
    data = tasks.experience(agent)
    step = tf.function(agent.train)
    found = [float(step(data).extra["alpha"]) for _ in range(5)]
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1])
    with pytest.raises(ValueError, match="by the function"):
        agent.set_alphas([0.5, 0.5])
    agent = new_agent()
    agent.set_alphas([0.2, 0.8])
    assert float(agent.train(data).extra["alpha"]) == pytest.approx(0.8)


def test_a_curriculum_over_tasks():
    """Specialists have outputs of their own for each task."""
    observation = {
        "task": BoundedTensorSpec((), tf.int32, 0, 2),
        "seen": tasks.OBSERVATION,
    }
    policies = [agents.SimplePolicy("specialists", task="task")]
    model = agents.mix_and_match_model(observation, tasks.DISCRETE, policies)
    head = next(x for x in dense(model) if x.units == 9)
    head.bias.assign(np.arange(9) * 1.0)
    head.kernel.assign(tf.zeros(head.kernel.shape))
    found = model(
        {
            "observation": {
                "task": tf.constant([[0, 1, 2]]),
                "seen": tf.ones((1, 3, 3)),
            },
            "is_first": tf.ones((1, 3), tf.bool),
            "state": {},
        }
    )["outputs"]["specialists"]
    np.testing.assert_array_equal(found[0], np.arange(9).reshape(3, 3))
    agents.MixAndMatchAgent(
        ts.time_step_spec(observation),
        tasks.DISCRETE,
        model,
        keras.optimizers.Adam(),
        policies,
        [0.5, 0.5],
    )


def test_training_resumes_bit_for_bit(tmp_path):
    def train():
        # As in a new process: TensorFlow orders sums by the layers' names.
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        maze = tasks.maze()
        policies = [agents.SimplePolicy("turns", actions=[1, 2])]
        model = agents.mix_and_match_model(
            maze.observation_spec(),
            maze.action_spec(),
            policies,
            core=tasks.CORES["LSTM"](),
        )
        agent = agents.MixAndMatchAgent(
            maze.time_step_spec(),
            maze.action_spec(),
            model,
            keras.optimizers.Adam(1e-2),
            policies,
            agents.MixtureSchedule(2, 1, 6),
        )
        history = agents.train(
            agent,
            maze,
            epochs=2,
            steps_per_epoch=2,
            segment_length=8,
            checkpoint_directory=tmp_path,
            verbose=0,
        )
        return agent, history

    whole, history = train()
    assert {"alpha", "matching"} <= set(history.history)
    tasks.go_back(tmp_path, 1)
    resumed, history = train()
    assert history.epoch == [1]
    assert_same_state(whole.model, resumed.model)
    np.testing.assert_array_equal(whole.alphas, resumed.alphas)


def test_policy_saver(tmp_path):
    agent = new_agent((FORWARD,), core="LSTM")
    agent.set_alphas([0.25, 0.75])
    policy_saver.PolicySaver(agent.collect_policy, batch_size=None).save(
        str(tmp_path)
    )
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = ts.restart(tf.ones((500, 3)), 500)
    found = loaded.action(time_step, loaded.get_initial_state(500))
    # The shares are saved with it: both policies are nearly even at first.
    counts = np.bincount(found.action.numpy(), minlength=3)
    assert counts.min() > 100


def test_python_environments_and_a_recurrent_curriculum():
    environment = environments.GymnasiumEnvironment("CartPole-v1", 2, seed=0)
    model = agents.mix_and_match_model(
        environment.observation_spec(),
        environment.action_spec(),
        [FORWARD],
        core=keras.layers.GRU(4),
    )
    agent = agents.MixAndMatchAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        keras.optimizers.Adam(),
        [FORWARD],
        agents.MixtureSchedule(end=2),
    )
    history = agents.train(agent, environment, 1, 3, 8, verbose=0).history
    assert history["alpha"] == [0.5]


def test_bad_arguments():
    other = BoundedTensorSpec((), tf.int32, 0, 8)
    nest = {"a": tasks.DISCRETE, "b": tasks.DISCRETE}
    good = agents.mix_and_match_model(
        tasks.OBSERVATION, tasks.DISCRETE, [SIMPLE]
    )

    def make(policies=(SIMPLE,), alphas=(0.5, 0.5), spec=tasks.DISCRETE, **k):
        return agents.MixAndMatchAgent(
            ts.time_step_spec(tasks.OBSERVATION),
            spec,
            good,
            keras.optimizers.Adam(),
            policies,
            alphas,
            **k,
        )

    def policy(**arguments):
        return (SIMPLE._replace(**arguments),)

    for arguments, words in (
        ({"alphas": [0.5, 0.6]}, "`alphas` must be 2 shares"),
        ({"alphas": [1.5, -0.5]}, "`alphas`"),
        ({"alphas": [1.0]}, "`alphas`"),
        ({"alphas": agents.MixtureSchedule(3)}, "`alphas`"),
        ({"policies": ()}, "at least one policy"),
        ({"policies": policy(actions=None)}, r"actions=\[...\]"),
        ({"policies": policy(actions=[0, 3])}, "from 0 to 2"),
        ({"policies": policy(actions=[0, 0])}, "different whole"),
        ({"policies": policy(actions=[0])}, "each of the 2 units"),
        ({"policies": policy(name="absent")}, "named like an output"),
        ({"spec": nest}, "one action"),
        ({"spec": other}, "does not fit `action_spec`|from 0 to 8"),
        ({"matching_coefficient": -1.0}, "`matching_coefficient`"),
        ({"stop_target_gradients": 1}, "`stop_target_gradients`"),
    ):
        with pytest.raises(ValueError, match=words):
            make(**arguments)
    with pytest.raises(ValueError, match="simplex|shares"):
        make().set_alphas([2.0, -1.0])
    with pytest.raises(ValueError, match="memory=False"):
        agents.mix_and_match_model(tasks.OBSERVATION, tasks.DISCRETE, [FORWARD])
    with pytest.raises(ValueError, match="`task`"):
        agents.mix_and_match_model(
            tasks.OBSERVATION,
            tasks.DISCRETE,
            [agents.SimplePolicy("each", task="room")],
        )
    for arguments in ({"num_policies": 1}, {"start": 5, "end": 5}):
        with pytest.raises(ValueError):
            agents.MixtureSchedule(**arguments)
