"""Loss terms whose gradients are gated by those of the agent's own losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl.gradients import GradientGate
from tests.agents import tasks


class Imitate(agents.LossTerm):
    """Action 2, always: helps here and hinders there."""

    def loss(self, segment):
        logits = segment.outputs["policy"][:, :-1]
        return -tf.nn.log_softmax(logits)[..., 2]


class Against(agents.LossTerm):
    """The policy's own loss, backwards."""

    def loss(self, segment):
        advantage = tf.stop_gradient(segment.vtrace.advantage_tm1)
        return advantage * segment.log_probability


class Field(agents.LossTerm):
    """REINFORCE with a reward of its own: the gradient of no loss."""

    def loss(self, segment):
        paid = tf.cast(tf.equal(segment.action, 1), tf.float32)
        return -tf.stop_gradient(paid - 0.3) * segment.log_probability


def new_agent(*terms, **arguments):
    keras.utils.set_random_seed(0)
    return tasks.agent(
        optimizer=keras.optimizers.SGD(0.1), loss_terms=terms, **arguments
    )


def separate_gradients(agent, data):
    variables = agent.model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses = agent.loss(data, training=True).extra
    return {
        name: [
            None if g is None else np.asarray(g, "float64")
            for g in tape.gradient(loss, variables)
        ]
        for name, loss in losses.items()
    }


def test_a_step_equals_the_definition():
    gate = GradientGate()
    agent = new_agent(Imitate(0.5, gate=gate), Field(2.0, gate=gate))
    data = tasks.experience(agent)
    gradients = separate_gradients(agent, data)
    start = [v.numpy() for v in agent.model.trainable_variables]
    info = agent.train(data)

    main = [
        sum(g[k] for g in own if g[k] is not None)
        for own in [[gradients[n] for n in ("policy", "value", "entropy")]]
        for k in range(len(start))
    ]
    total = list(main)
    for name in ("Imitate", "Field"):
        shared = [k for k, g in enumerate(gradients[name]) if g is not None]
        a = np.concatenate([main[k].ravel() for k in shared])
        b = np.concatenate([gradients[name][k].ravel() for k in shared])
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert float(info.extra[f"cosine_{name}"]) == pytest.approx(
            cosine, abs=1e-5
        )
        weight = max(0.0, cosine)
        assert float(info.extra[f"weight_{name}"]) == pytest.approx(
            weight, abs=1e-5
        )
        for k in shared:
            total[k] = total[k] + weight * gradients[name][k]
    assert len(shared) < len(start)  # the value head is not shared
    for before, step, now in zip(
        start, total, agent.model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(now, before - 0.1 * step, atol=1e-6)


@pytest.mark.parametrize("gates", [1, 2])
def test_what_opposes_is_left_out(gates):
    def trained(*terms):
        agent = new_agent(
            *terms, value_coefficient=0.0, entropy_coefficient=0.0
        )
        data = tasks.experience(agent)
        for _ in range(3):
            info = agent.train(data)
        return agent.model.get_weights(), info.extra

    first = GradientGate()
    second = first if gates == 1 else GradientGate("unweighted")
    expected, _ = trained()
    terms = Against(3.0, gate=first), Against(1.0, "again", gate=second)
    found, extra = trained(*terms)
    assert float(extra["weight_Against"]) == float(extra["weight_again"]) == 0
    assert float(extra["cosine_again"]) == pytest.approx(-1, abs=1e-4)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_backward_pass_for_all_losses_without_a_gate(monkeypatch):
    calls = []
    gradient = tf.GradientTape.gradient

    def counted(*arguments, **more):
        calls.append(arguments)
        return gradient(*arguments, **more)

    agent = new_agent(Imitate(gate=GradientGate()), Field())
    data = tasks.experience(agent)
    monkeypatch.setattr(tf.GradientTape, "gradient", counted)
    agent.train(data)
    assert len(calls) == 2


@pytest.mark.slow  # in the suite: test_compositions
def test_a_gate_is_reported_and_resumed_bit_for_bit(tmp_path):
    def run():
        keras.utils.set_random_seed(0)
        environment = tasks.maze()
        agent = tasks.maze_agent(
            environment,
            loss_terms=[Imitate(0.1, gate=GradientGate(smoothing=0.9))],
        )
        history = agents.train(
            agent,
            environment,
            epochs=2,
            steps_per_epoch=3,
            segment_length=4,
            checkpoint_directory=tmp_path,
            verbose=0,
        )
        assert {"cosine_Imitate", "weight_Imitate"} <= set(history.history)
        return agent, history.epoch

    whole, _ = run()
    tasks.go_back(tmp_path, 1)
    parts, epochs = run()
    assert epochs == [1]
    for a, b in zip(
        [*whole.model.weights, *whole.gates[0].variables],
        [*parts.model.weights, *parts.gates[0].variables],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert float(whole.gates[0].variables[1]) == 6


def test_mistakes():
    with pytest.raises(ValueError, match="`gate` must be a"):
        Imitate(gate="weighted")

    class RewardOnly(agents.LossTerm):
        def reward(self, segment):
            return tf.ones_like(segment.reward_t)

    class Constant(agents.LossTerm):
        def loss(self, segment):
            return tf.ones_like(segment.reward_t)

    for term in (RewardOnly, Constant):
        agent = new_agent(term(gate=GradientGate()))
        before = agent.model.get_weights()
        with pytest.raises(ValueError, match=f"'{term.__name__}' has a gate"):
            agent.train(tasks.experience(agent))
        for a, b in zip(before, agent.model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_freezing_after_the_gates_were_built_is_refused():
    agent = new_agent(Imitate(gate=GradientGate()))
    agent.model.layers[-1].trainable = False
    data = tasks.experience(agent)
    with pytest.raises(ValueError, match="Freeze or unfreeze layers before"):
        agent.train(data)
