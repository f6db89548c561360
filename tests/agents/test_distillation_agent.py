"""Distillation in agents: what is learned, from whom, and what is refused."""

import dataclasses
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.policies import tf_policy
from tf_agents.specs import BoundedTensorSpec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import layers
from keras_sparse_rl.gradients import GradientGate
from keras_sparse_rl.losses import DistillationVariant
from tests.agents import tasks

VARIANTS = [
    "teacher",
    "on_policy",
    "entropy_regularized",
    "n_distill",
    "expected_entropy",
    "expected_kl",
    "teacher_value",
    "value_gated",
    "td_teacher_value",
]
SPECS = ts.time_step_spec(tasks.OBSERVATION), tasks.DISCRETE


def linear(observation):
    return 3.0 * observation @ tf.constant(np.eye(3, dtype="float32"))


def teacher(source=linear, action_spec=tasks.DISCRETE, **arguments):
    arguments.setdefault("value", lambda x: tf.reduce_sum(x, -1))
    return agents.Teacher(source, SPECS[0], action_spec, **arguments)


def agent(variant="expected_kl", source=None, core="none", **arguments):
    return agents.DistillationAgent(
        *SPECS,
        tasks.model(core),
        arguments.pop("optimizer", keras.optimizers.Adam(1e-2)),
        teacher() if source is None else source,
        variant,
        **arguments,
    )


def test_teachers_of_environments_in_python():
    world = environments.GymnasiumEnvironment("CartPole-v1", 2, 0)
    specs = world.time_step_spec(), world.action_spec()
    model = agents.actor_critic_model(specs[0].observation, specs[1])
    found = agents.Teacher(model, *specs)
    assert found.has_value
    agents.Teacher(lambda seen: tf.zeros((tf.shape(seen)[0], 2)), *specs)


def reference(agent, variant, data):
    """Pseudo-reward and loss of every step in NumPy, and the policy's loss."""
    outputs = agent.model(
        {
            "observation": data.observation,
            "is_first": data.step_type == tasks.FIRST,
            "state": (),
        }
    )["outputs"]

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    observation = data.observation.numpy().astype(float)
    student = log_softmax(np.array(outputs["policy"], float))
    advice = log_softmax(3.0 * observation)
    v_student = np.array(outputs["value"], float)[..., 0]
    v_teacher = observation.sum(-1)
    kinds = data.step_type.numpy()
    losses_, rewards = [], []
    for b in range(kinds.shape[0]):
        for t in range(kinds.shape[1] - 1):
            if kinds[b, t] == tasks.LAST:
                continue
            discount = agent._discount * float(data.discount[b, t])

            def lost(t, b=b):
                p, q = np.exp(advice[b, t]), np.exp(student[b, t])
                return {
                    "teacher_cross_entropy": -p @ student[b, t],
                    "student_cross_entropy": -q @ advice[b, t],
                    "student_kl": q @ (student[b, t] - advice[b, t]),
                }[variant.loss]

            loss = reward = 0.0
            if variant.loss:
                loss = lost(t)
                if variant.value_gate and v_teacher[b, t] <= v_student[b, t]:
                    loss = 0.0
            if variant.reward == "next_loss":
                reward = -discount * lost(t + 1)
            if variant.reward == "log_probability":
                reward = advice[b, t, int(data.action[b, t])]
            if variant.reward == "teacher_value":
                reward = discount * v_teacher[b, t + 1] - v_teacher[b, t]
            if variant.teacher_bootstrap:
                chosen = student[b, t, int(data.action[b, t])]
                behaviour = float(data.policy_info["log_probability"][b, t])
                weight = float(data.reward[b, t]) - v_teacher[b, t]
                weight += discount * v_teacher[b, t + 1]
                loss = -weight * min(1, np.exp(chosen - behaviour)) * chosen
            losses_.append(loss)
            rewards.append(reward)
    return np.mean(losses_), np.mean(rewards)


@pytest.mark.parametrize("name", VARIANTS)
def test_numbers_equal_the_equations(name):
    variant = DistillationVariant.named(name)
    learner = agent(name, coefficient=0.5)
    data = tasks.experience(learner)
    found = learner.loss(data).extra
    loss, reward = reference(learner, variant, data)
    has_loss = variant.loss or variant.teacher_bootstrap
    assert ("distillation" in found) == bool(has_loss)
    if has_loss:
        assert float(found["distillation"]) == pytest.approx(0.5 * loss, 1e-4)
    assert ("reward_distillation" in found) == bool(variant.reward)
    if variant.reward:
        assert float(found["reward_distillation"]) == pytest.approx(
            0.5 * reward, 1e-4
        )
    assert ("policy" in found) == variant.has_return


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_the_policy(name):
    learner = agent(name)
    head = next(
        w for w in learner.model.trainable_variables if w.shape[-1] == 3
    )
    before = np.array(head)
    learner.train(tasks.experience(learner))
    assert np.abs(np.array(head) - before).max() > 1e-4


def test_the_environment_s_reward_counts_only_where_asked():
    for with_reward in (False, True):
        variant = dataclasses.replace(
            DistillationVariant.named("n_distill"),
            environment_reward=with_reward,
        )
        learner = agent(variant)
        data = tasks.experience(learner)
        more = data._replace(reward=data.reward + 1.0)
        same = float(learner.loss(data).loss) == float(learner.loss(more).loss)
        assert same != with_reward


def world(**arguments):
    return environments.RandomGridWorld(
        **{"size": 5, "walls": 0.0, "batch_size": 16, **arguments}
    )


def table_of(environment):
    """Logits towards the nearest goal, by value iteration."""
    value = np.zeros(25)
    for _ in range(50):
        reached = environment.next_cell[0]
        quality = environment.cell_reward[0][reached] + 0.9 * np.where(
            environment.is_terminal[0][reached], 0.0, value[reached]
        )
        value = quality.max(-1)
    return tf.constant(8.0 * quality, tf.float32)


def grid_agent(environment, source, variant, **arguments):
    inputs = {
        "observation": keras.Input((None,), dtype="int32"),
        "is_first": keras.Input((None,), dtype="bool"),
        "state": (),
    }
    heads = {
        name: keras.layers.Embedding(25, units, "zeros")(inputs["observation"])
        for name, units in (("policy", 4), ("value", 1))
    }
    model = keras.Model(inputs, {"outputs": heads, "state": ()})
    return agents.DistillationAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        keras.optimizers.Adam(0.1),
        source,
        variant,
        **arguments,
    )


@pytest.mark.parametrize("name", ["teacher", "expected_kl"])
def test_the_student_becomes_the_teacher(name):
    environment = world(end_probability=0.1)
    table = table_of(environment)
    learner = grid_agent(
        environment, lambda cell: tf.gather(table, cell), name, discount=0.9
    )
    agents.train(
        learner,
        environment,
        epochs=1,
        steps_per_epoch=100,
        segment_length=16,
        verbose=0,
    )
    cell = int(environment.reset().observation[0])
    logits = next(w for w in learner.model.weights if w.shape[-1] == 4)[cell]
    np.testing.assert_allclose(
        tf.nn.softmax(logits), tf.nn.softmax(table[cell]), atol=0.05
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_who_collects(share):
    """Frequencies of actions, and the probabilities that are reported."""
    number = 4000
    observation = tf.tile([[0.3, -0.2, 0.5]], [number, 1])
    variant = DistillationVariant("teacher_kl", teacher_share=share)
    learner = agent(variant)
    policy = learner.collect_policy
    step = policy.action(ts.restart(observation, number))
    own = tf.nn.softmax(
        learner.model(
            {
                "observation": observation[:1, None],
                "is_first": tf.ones((1, 1), tf.bool),
                "state": (),
            }
        )["outputs"]["policy"][0, 0]
    ).numpy()
    taught = tf.nn.softmax(linear(observation[:1]))[0].numpy()
    expected = share * taught + (1 - share) * own
    found = np.bincount(step.action.numpy(), minlength=3) / number
    error = np.sqrt(expected * (1 - expected) / number)
    assert (np.abs(found - expected) < 4 * error).all()
    np.testing.assert_allclose(
        np.exp(step.info["log_probability"]),
        expected[step.action.numpy()],
        rtol=1e-5,
    )
    distribution = policy.distribution(ts.restart(observation[:1], 1)).action
    np.testing.assert_allclose(distribution.prob([2]), expected[2:], rtol=1e-5)


class Counting(tf_policy.TFPolicy):
    """Prefers action 0, 1, 2, 0, ... by the number of steps it has seen."""

    def __init__(self):
        super().__init__(
            *SPECS,
            policy_state_spec=tf.TensorSpec((), tf.int32),
        )

    def _distribution(self, time_step, policy_state):
        import tensorflow_probability as tfp

        logits = 5.0 * tf.one_hot(policy_state % 3, 3)
        return policy_step.PolicyStep(
            tfp.distributions.Categorical(logits), policy_state + 1, ()
        )

    def _variables(self):
        return []


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_teacher_s_memory_goes_on_across_segments(share):
    source = agents.Teacher(Counting(), *SPECS)
    variant = DistillationVariant("teacher_kl", teacher_share=share)
    learner = agent(variant, source, core="LSTM")
    policy = learner.collect_policy
    state = policy.get_initial_state(2)
    observation = tf.zeros((2, 3))
    for kind in (0, 1, 1, 2, 0, 1):
        step = ts.TimeStep(
            tf.constant([kind, 1]), tf.zeros(2), tf.ones(2), observation
        )
        state = policy.action(step, state).state
    memory = policy.memories(state)["distillation"]
    np.testing.assert_array_equal(memory, [2, 6])
    # What is asked in training equals what was seen when acting.
    is_first = tf.constant([[False, False, True], [False, False, False]])
    advice = source.advise(tf.zeros((2, 3, 3)), is_first, memory)
    np.testing.assert_array_equal(
        tf.argmax(advice.policy, -1), [[2, 0, 0], [0, 1, 2]]
    )
    history = learner.train(tasks.experience(learner))
    assert math.isfinite(history.loss)


TEACHERS = {
    "function": lambda: linear,
    "model": lambda: keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3)]
    ),
    "contract": lambda: tasks.model(),
    "recurrent": lambda: tasks.model("LSTM"),
    "episodic": lambda: agents.actor_critic_model(
        tasks.OBSERVATION,
        tasks.DISCRETE,
        core=layers.EpisodicLSTM(
            5, layers.EpisodicMemory(4, 64, 5), return_state=True
        ),
    ),
    "policy": lambda: tasks.agent().policy,
    "collecting policy": lambda: tasks.agent("LSTM").collect_policy,
}


@pytest.mark.parametrize("kind", TEACHERS)
def test_kinds_of_teachers_agree_with_themselves_step_by_step(kind):
    source = agents.Teacher(TEACHERS[kind](), *SPECS)
    contract = ("contract", "recurrent", "episodic")
    assert source.has_value == (kind in contract)
    generator = np.random.default_rng(0)
    observation = tf.constant(generator.normal(size=(2, 7, 3)), tf.float32)
    starts = [[1, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0]]
    is_first = tf.constant(starts) == 1
    state = source.initial_state(2)
    advice = source.advise(observation, is_first, state)
    for t in range(7):
        kinds = tf.where(is_first[:, t], 0, 1)
        step = ts.TimeStep(kinds, tf.zeros(2), tf.ones(2), observation[:, t])
        distribution, state = source.distribution(step, state)
        np.testing.assert_allclose(
            tf.nn.log_softmax(distribution.logits_parameter()),
            tf.nn.log_softmax(advice.policy[:, t]),
            atol=1e-5,
        )


def test_a_teacher_with_keys_of_its_own():
    seen = []
    spec = ts.time_step_spec(
        {"map": tasks.OBSERVATION, "goal": tf.TensorSpec((2,), tf.float32)}
    )

    def source(observation):
        seen.append(observation)
        return tf.zeros((tf.shape(observation)[0], 3))

    agents.Teacher(source, spec, tasks.DISCRETE, keys="map")
    assert seen[-1].shape == (2, 3)

    def of_dict(observation):
        seen.append(observation)
        return tf.zeros((2, 3))

    agents.Teacher(of_dict, spec, tasks.DISCRETE, keys=["goal"])
    assert list(seen[-1]) == ["goal"]
    for keys in ("place", ["map", "place"]):
        with pytest.raises(ValueError, match="'place'.*'map', 'goal'"):
            agents.Teacher(source, spec, tasks.DISCRETE, keys=keys)
    with pytest.raises(ValueError, match="no names"):
        agents.Teacher(source, *SPECS, keys="map")


@pytest.mark.parametrize("squash", [True, False])
def test_continuous_actions(squash):
    def source(observation):
        return tf.concat(
            [observation[:, :2], -tf.ones((tf.shape(observation)[0], 2))], -1
        )

    specs = SPECS[0], tasks.CONTINUOUS
    learner = agents.DistillationAgent(
        *specs,
        tasks.model(action_spec=tasks.CONTINUOUS),
        keras.optimizers.Adam(1e-2),
        source,
        "expected_kl",
        squash=squash,
    )
    data = tasks.experience(learner, batch=8, time=16)
    step = tf.function(learner.train)
    first = float(step(data).extra["distillation"])
    for _ in range(150):
        last = float(step(data).extra["distillation"])
    assert last < 0.25 * first
    other = agents.Teacher(source, *specs, squash=not squash)
    learner = agents.DistillationAgent(
        *specs,
        tasks.model(action_spec=tasks.CONTINUOUS),
        keras.optimizers.Adam(1e-2),
        other,
        squash=squash,
    )
    with pytest.raises(ValueError, match="tanh in both"):
        learner.train(data)


def test_entropy_regularized_reward_of_squashed_actions():
    """Against a density by SciPy, in the space before tanh."""
    from scipy import stats

    specs = SPECS[0], tasks.CONTINUOUS
    learner = agents.DistillationAgent(
        *specs,
        tasks.model(action_spec=tasks.CONTINUOUS),
        keras.optimizers.Adam(1e-2),
        lambda x: tf.tile([[0.2, -0.3, 0.0, 0.0]], [tf.shape(x)[0], 1]),
        "entropy_regularized",
    )
    data = tasks.experience(learner)
    found = float(learner.loss(data).extra["reward_distillation"])
    action = data.action.numpy()[:, :-1].astype(float)
    free = np.arctanh((action - [0.0, 2.0]) / [1.0, 2.0])
    scale = np.log1p(np.exp(0.5413)) + 1e-4
    density = stats.norm([0.2, -0.3], scale).logpdf(free).sum(-1)
    valid = data.step_type.numpy()[:, :-1] != tasks.LAST
    assert found == pytest.approx(density[valid].mean(), rel=1e-4)


def test_as_a_term_beside_reward_with_a_gate():
    gate = GradientGate()
    term = agents.DistillationTerm(teacher(), "on_policy", 0.5, gate=gate)
    learner = tasks.agent(loss_terms=[term])
    found = learner.train(tasks.experience(learner)).extra
    assert -1 <= float(found["cosine_distillation"]) <= 1
    assert float(found["distillation"]) > 0
    assert "policy" in found and "value" in found


def test_what_other_terms_pay_is_learned_from():
    class Pay(agents.LossTerm):
        def reward(self, segment):
            return tf.ones_like(segment.reward_t)

    learner = agent("on_policy", loss_terms=[Pay()])
    found = learner.loss(tasks.experience(learner)).extra
    assert (
        "policy" in found
        and "policy"
        not in agent("on_policy").loss(tasks.experience(learner)).extra
    )
    gated = agent("value_gated", loss_terms=[Pay()])
    with pytest.raises(ValueError, match="reward_Pay"):
        gated.loss(tasks.experience(gated))


def test_a_coefficient_by_schedule():
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 2, 0.0)
    learner = agent("on_policy", coefficient=schedule)
    data = tasks.experience(learner)
    found = [float(learner.train(data).extra["distillation"]) for _ in range(3)]
    assert found[0] > found[1] > 0
    assert found[2] == 0


def test_a_loss_that_does_nothing_is_reported():
    environment = world(batch_size=2)
    table = tf.zeros((25, 4))
    learner = grid_agent(
        environment, lambda cell: tf.gather(table, cell), "expected_kl"
    )
    run = {"epochs": 1, "steps_per_epoch": 2, "segment_length": 3, "verbose": 0}
    with pytest.warns(UserWarning, match="'distillation' was exactly 0"):
        agents.train(learner, environment, **run)
    table = tf.random.stateless_normal((25, 4), (0, 0))
    learner = grid_agent(
        environment, lambda cell: tf.gather(table, cell), "expected_kl"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        agents.train(learner, environment, **run)
    model = tasks.model()
    with pytest.raises(ValueError, match="compared with itself"):
        agents.DistillationAgent(*SPECS, model, keras.optimizers.Adam(), model)


def test_a_student_is_not_its_own_teacher():
    """Nor through a policy, or another model of the same layers."""
    first = tasks.agent("LSTM")
    same = keras.Model(first.model.input, first.model.output)
    for source in (first.model, first.policy, same):
        term = agents.DistillationTerm(
            agents.Teacher(source, *SPECS), "on_policy"
        )
        with pytest.raises(ValueError, match="compared with itself"):
            agents.ActorCriticAgent(
                *SPECS, first.model, keras.optimizers.Adam(), loss_terms=[term]
            )


@pytest.mark.slow  # in the suite: test_compositions
def test_resumes_bit_for_bit(tmp_path):
    """Also who acts, and the memory of a recurrent teacher."""
    environment = tasks.maze()

    def learner():
        keras.utils.set_random_seed(3)
        taught = tasks.maze_agent(environment, "LSTM")
        return agents.DistillationAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            agents.actor_critic_model(
                environment.observation_spec(), environment.action_spec()
            ),
            keras.optimizers.Adam(1e-2),
            taught.collect_policy,
            DistillationVariant("teacher_kl", "next_loss", teacher_share=0.5),
        )

    run = {"steps_per_epoch": 2, "segment_length": 4, "verbose": 0}
    run["checkpoint_directory"] = tmp_path
    whole, resumed = learner(), learner()
    agents.train(whole, tasks.maze(), epochs=2, **run)
    tasks.go_back(tmp_path, 1)
    history = agents.train(resumed, tasks.maze(), epochs=2, **run)
    assert history.epoch == [1]
    for one, other in zip(whole.model.weights, resumed.model.weights):
        np.testing.assert_array_equal(one, other)


def test_policy_saver(tmp_path):
    learner = agent("teacher")
    policy_saver.PolicySaver(learner.policy, 2).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    step = ts.restart(tf.ones((2, 3)), 2)
    np.testing.assert_array_equal(
        loaded.action(step, ()).action, learner.policy.action(step).action
    )


def test_bad_input():
    other = BoundedTensorSpec((), tf.int32, 0, 4)
    policy = tasks.agent(action_spec=tasks.CONTINUOUS).policy
    with pytest.raises(ValueError, match="same action spec"):
        agents.Teacher(policy, *SPECS)
    with pytest.raises(ValueError, match="does not fit `action_spec`"):
        agents.Teacher(linear, SPECS[0], other)
    with pytest.raises(ValueError, match="must be finite"):
        agents.Teacher(lambda x: tf.fill((2, 3), math.nan), *SPECS)
    with pytest.raises(ValueError, match="`source` of a teacher"):
        agents.Teacher("teacher", *SPECS)
    with pytest.raises(ValueError, match="`value` must map"):
        agents.Teacher(linear, *SPECS, value=lambda x: x)
    with pytest.raises(ValueError, match="`coefficient`.*-1"):
        agent(coefficient=-1)
    with pytest.raises(ValueError, match="needs the teacher's value"):
        agent("teacher_value", teacher(value=None))
    acting = DistillationVariant("teacher_kl", teacher_share=0.5)
    with pytest.raises(ValueError, match="Only one loss term"):
        agent(
            acting,
            loss_terms=[agents.DistillationTerm(teacher(), acting, name="b")],
        )
