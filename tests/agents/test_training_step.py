"""What a training step takes in: precision, regularizers, terms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl.gradients import GradientGate
from tests.agents import tasks

RESERVED = (
    "policy",
    "value",
    "entropy",
    "regularization",
    "loss",
    "gradient_norm",
    "finite",
    "return",
    "episodes",
    "return_sum",
    "lag",
)


def agent_of(model, **arguments):
    return agents.ActorCriticAgent(
        ts.time_step_spec(tasks.OBSERVATION),
        tasks.DISCRETE,
        model,
        keras.optimizers.SGD(1.0),
        **arguments,
    )


def model_of(torso):
    return agents.actor_critic_model(
        tasks.OBSERVATION, tasks.DISCRETE, torso=torso
    )


def term(loss=None, reward=None, **arguments):
    class Mine(agents.LossTerm):
        def loss(self, segment):
            return None if loss is None else loss(segment)

        def reward(self, segment):
            return None if reward is None else reward(segment)

    return Mine(**arguments)


def test_half_precision_moves_weights_as_far():
    moved, start = {}, None
    kept = keras.config.dtype_policy()
    try:
        for policy in ("float32", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            agent = tasks.agent(optimizer=keras.optimizers.SGD(1.0))
            start = start or agent.model.get_weights()
            agent.model.set_weights(start)
            agent.train(tasks.experience(agent))
            moved[policy] = np.concatenate(
                [
                    np.ravel(after - before)
                    for after, before in zip(agent.model.get_weights(), start)
                ]
            )
    finally:
        keras.config.set_dtype_policy(kept)
    assert np.abs(moved["float32"]).max() > 0.1
    np.testing.assert_allclose(
        moved["mixed_float16"], moved["float32"], atol=0.01
    )


def test_loss_scales_are_refused():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
    with pytest.raises(ValueError, match="`optimizer`.*mixed_bfloat16"):
        tasks.agent(optimizer=optimizer)
    default = agents.default_policy_model(tasks.OBSERVATION, tasks.DISCRETE)
    with pytest.raises(ValueError, match="`default_optimizer`.*_bfloat16"):
        agents.KLRegularizedAgent(
            ts.time_step_spec(tasks.OBSERVATION),
            tasks.DISCRETE,
            tasks.model(),
            keras.optimizers.SGD(1.0),
            default,
            optimizer,
        )


@keras.saving.register_keras_serializable(package="tests")
class Penalty(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(3.0 * keras.ops.mean(keras.ops.ones_like(inputs)))
        return inputs


def test_regularizers_and_added_losses_count_once():
    dense = keras.layers.Dense(
        4, kernel_regularizer=keras.regularizers.L2(100.0)
    )
    agent = agent_of(
        model_of(
            keras.Sequential([keras.Input((3,)), dense, Penalty()]),
        ),
        entropy_coefficient=0.0,
        value_coefficient=0.0,
    )
    kernel = dense.kernel.numpy()
    expected = 100 * (kernel**2).sum() + 3.0
    experience = tasks.experience(agent)
    experience = experience._replace(  # nothing to learn from
        reward=tf.zeros_like(experience.reward),
        discount=tf.zeros_like(experience.discount),
    )
    for layer in agent.model.layers:
        if isinstance(layer, keras.layers.Dense):  # the heads
            layer.kernel.assign(tf.zeros_like(layer.kernel))
    agent.model.optimizer.learning_rate = 1e-3
    info = agent.train(experience)
    assert float(info.extra["regularization"]) == pytest.approx(expected, 1e-5)
    assert float(info.loss) == pytest.approx(expected, 1e-5)
    np.testing.assert_allclose(dense.kernel, 0.8 * kernel, atol=1e-5)


def test_regularizers_are_a_part_of_what_gates_compare_with():
    dense = keras.layers.Dense(4, kernel_regularizer="l2")
    gated = term(
        lambda segment: segment.value[:, :-1] ** 2,
        name="gated",
        gate=GradientGate(),
    )
    agent = agent_of(
        model_of(keras.Sequential([keras.Input((3,)), dense])),
        loss_terms=[gated],
    )
    info = agent.train(tasks.experience(agent))
    assert float(info.extra["regularization"]) > 0
    assert "weight_regularization" not in info.extra


@pytest.mark.parametrize("part", ["loss", "reward"])
@pytest.mark.parametrize(
    "make, shape, remedy",
    [
        (lambda s: s.outputs["value"][:, :-1], "(3, 7, 1)", r"[..., 0]"),
        (lambda s: s.value, "(3, 8)", r"[:, :-1]"),
        (lambda s: tf.reduce_mean(s.value[:, :-1]), "()", "each step"),
        (lambda s: tf.reduce_mean(s.value[:, :-1], 1), "(3,)", "each step"),
    ],
)
def test_shapes_of_terms_are_checked(part, make, shape, remedy):
    agent = tasks.agent(loss_terms=[term(**{part: make}, name="mine")])
    with pytest.raises(ValueError) as error:
        agent.loss(tasks.experience(agent))
    for words in (f"`{part}`", "'mine'", shape, "(3, 7)", remedy):
        assert words in str(error.value)


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_figures_are_taken(name):
    with pytest.raises(ValueError, match=f"Received: '{name}'"):
        tasks.agent(loss_terms=[agents.LossTerm(name=name)])


class Curious(agents.LossTerm):
    def __init__(self, held, **arguments):
        super().__init__(**arguments)
        self.held = held

    def loss(self, segment):
        return 0.0 * segment.value[:, :-1]


def dense_layer(trainable=True):
    layer = keras.layers.Dense(1, trainable=trainable)
    layer.build((None, 3))
    return layer


@pytest.mark.parametrize(
    "held",
    [
        dense_layer,
        lambda: [1, dense_layer()],
        lambda: {"net": keras.Sequential([keras.Input((3,)), dense_layer()])},
        lambda: keras.Variable(1.0),
    ],
)
def test_weights_that_nobody_trains_are_refused(held):
    with pytest.raises(ValueError, match="'Curious'.*build_model"):
        tasks.agent(loss_terms=[Curious(held())])


def test_weights_that_are_made_later_are_refused_too():
    class Late(Curious):
        def loss(self, segment):
            return self.held(segment.observation[:, :-1])[..., 0]

    agent = tasks.agent(loss_terms=[Late(keras.layers.Dense(1))])
    with pytest.raises(ValueError, match="'Late'.*build_model"):
        agent.train(tasks.experience(agent))


def test_weights_that_need_no_training_may_be_held():
    model = tasks.model()
    held = {"own": model.layers[-1], "fixed": dense_layer(trainable=False)}
    agent = agent_of(model, loss_terms=[Curious(held)])
    fixed = held["fixed"].get_weights()
    agent.train(tasks.experience(agent))
    for before, after in zip(fixed, held["fixed"].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
