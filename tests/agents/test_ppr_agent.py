"""PPR agents: whose policy acts, what is learned, and what weight 0 means."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import PPRCore
from tests.agents import tasks

SPEC = ts.time_step_spec(tasks.OBSERVATION)


def core(**arguments):
    return PPRCore(4, 3, return_state=True, **arguments)


def ppr_agent(action_spec=tasks.DISCRETE, shared_heads=True, **arguments):
    model = agents.ppr_model(
        tasks.OBSERVATION, action_spec, core=core(), shared_heads=shared_heads
    )
    adam = keras.optimizers.Adam(1e-2)
    return agents.PPRAgent(SPEC, action_spec, model, adam, **arguments)


def heads(model):
    """The layers behind the core."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense) and layer.name != "torso"
    ]


def part_policies(agent):
    """Policies start nearly equal: makes them differ."""
    for head in heads(agent.model):
        head.kernel.assign(head.kernel * 7.0)


def by_role(model):
    """Variables by the layer that they belong to, and their number there."""
    # The layer that makes the policy that acts.
    acts = model.output["outputs"]["policy"]._keras_history.operation
    found = {
        "torso": model.get_layer("torso"),
        "core": next(x for x in model.layers if isinstance(x, PPRCore)),
        "value": next(h for h in heads(model) if h.units == 1),
        "policy": next(h for h in heads(model) if h is acts),
    }
    return {
        (role, number): variable
        for role, layer in found.items()
        for number, variable in enumerate(layer.trainable_variables)
    }


@pytest.mark.parametrize("shared_heads", [True, False])
def test_weight_zero_is_the_agent_without_the_heads(shared_heads):
    ours = ppr_agent(shared_heads=shared_heads, coefficient=0.0)
    plain = agents.ActorCriticAgent(
        SPEC,
        tasks.DISCRETE,
        agents.actor_critic_model(
            tasks.OBSERVATION, tasks.DISCRETE, core=core()
        ),
        keras.optimizers.Adam(1e-2),
    )
    mine, theirs = by_role(ours.model), by_role(plain.model)
    assert set(mine) == set(theirs)
    for key, variable in mine.items():
        theirs[key].assign(variable)
    data = tasks.experience(ours)
    gradients = []
    for agent, variables in ((ours, mine), (plain, theirs)):
        with tf.GradientTape() as tape:
            loss = agent.loss(data, training=True).loss
        found = tape.gradient(loss, list(variables.values()))
        gradients.append(dict(zip(variables, found)))
    moved = 0
    for key, gradient in gradients[1].items():
        if gradient is None:  # the prediction core, which is not there
            assert not np.any(gradients[0][key])
        else:
            np.testing.assert_array_equal(gradients[0][key], gradient)
            moved += 1
    assert moved >= 14


def test_the_loss_is_that_of_all_steps_that_count():
    agent = ppr_agent(coefficient=0.3)
    part_policies(agent)
    data = tasks.experience(agent)
    state = tf.nest.map_structure(lambda x: x[:, 0], data.policy_info["state"])
    outputs = agent.model(
        {
            "observation": data.observation,
            "is_first": data.step_type == tasks.FIRST,
            "state": state,
        }
    )["outputs"]

    def log_p(name):
        x = np.array(outputs[name], "float64")[:, :-1]
        return x - np.logaddexp.reduce(x, -1, keepdims=True)

    total = 0.0
    for a, b in (
        ("policy", "perception"),
        ("policy", "prediction"),
        ("perception", "prediction"),
    ):
        total += (np.exp(log_p(a)) * (log_p(a) - log_p(b))).sum(-1)
    valid = data.step_type.numpy()[:, :-1] != tasks.LAST
    expected = 0.3 * total[valid].mean()
    found = float(agent.loss(data).extra["ppr"])
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1e-3


def test_only_the_reaction_acts_and_acting_computes_no_prediction():
    agent = ppr_agent(shared_heads=False)
    policy = agent.collect_policy
    state = policy.get_initial_state(2)
    acting = tf.function(policy.sample).get_concrete_function(
        ts.restart(tf.zeros((2, 3)), 2), state, tf.constant([0, 1])
    )
    graph = tf.compat.v1.graph_util.extract_sub_graph(
        acting.graph.as_graph_def(), [x.op.name for x in acting.outputs]
    )

    def users(names):
        """Nodes that the actions need and that take one of these as input."""
        return [
            node.name
            for node in graph.node
            if any(x.split(":")[0] in names for x in node.input)
        ]

    layer = next(x for x in agent.model.layers if isinstance(x, PPRCore))
    used = {}
    for name, cell in layer._cells.items():
        handle = cell.trainable_variables[0].value.handle
        (capture,) = (
            internal.op.name
            for external, internal in acting.graph.captures
            if external is handle
        )
        # TensorFlow reads every variable; who computes with it?
        used[name] = bool(users(users([capture])))
    assert used == {"perception": True, "prediction": False, "reaction": True}
    assert not any(name.startswith("prediction") for name in state)
    # The policies that do not act have heads of their own: two and a bias.
    assert sum(h.units == 3 for h in heads(agent.model)) == 3


def test_the_loss_brings_the_policies_together():
    agent = ppr_agent(shared_heads=False)
    part_policies(agent)
    data = tasks.experience(agent)
    variables = agent.model.trainable_variables
    with tf.GradientTape() as tape:
        before = agent.loss(data, training=True).extra["ppr"]
    for variable, gradient in zip(
        variables, tape.gradient(before, variables), strict=True
    ):
        if gradient is not None:  # the value's head has nothing to do with it
            variable.assign_sub(0.3 * gradient)
    assert float(agent.loss(data).extra["ppr"]) < 0.95 * float(before)


class Split(keras.layers.Layer):
    """A torso that keeps what was observed from what was done and got."""

    def call(self, x):
        last = keras.ops.concatenate(
            [x["previous_action"], x["previous_reward"][:, None]], axis=-1
        )
        return {"observation": x["observation"], "last": last}

    def compute_output_spec(self, x):
        return {
            "observation": keras.KerasTensor((None, 4)),
            "last": keras.KerasTensor((None, 4)),
        }


def test_cores_may_see_different_observations():
    environment = environments.WithPreviousActionAndReward(tasks.maze())
    inputs = {"prediction": ("last",), "perception": ("observation",)}
    model = agents.ppr_model(
        environment.observation_spec(),
        environment.action_spec(),
        torso=Split(),
        core=core(inputs=inputs),
    )
    state = next(x for x in model.layers if isinstance(x, PPRCore))
    state = state.initial_state(4)
    assert "prediction_0" in state
    observation = tf.nest.map_structure(
        lambda x: x[:, None], environment.reset().observation
    )

    def policies(reward):
        shown = {**observation, "previous_reward": tf.fill((4, 1), reward)}
        is_first = tf.zeros((4, 1), bool)
        inputs = {"observation": shown, "is_first": is_first, "state": state}
        return model(inputs)["outputs"]

    before, after = policies(0.0), policies(1.0)
    moved = {
        name: bool(np.any(np.array(before[name]) != np.array(after[name])))
        for name in ("policy", "perception", "prediction")
    }
    assert moved == {"policy": True, "perception": False, "prediction": True}


@pytest.mark.slow
def test_resumes_bit_for_bit(tmp_path):
    """With several observations, of which the cores see different ones."""

    def run(directory, seed):
        keras.utils.set_random_seed(seed)
        environment = environments.WithPreviousActionAndReward(tasks.maze())
        specs = environment.observation_spec(), environment.action_spec()
        inputs = {"prediction": ("last",), "perception": ("observation",)}
        agent = agents.PPRAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            agents.ppr_model(
                *specs, torso=Split(), core=core(cell="gru", inputs=inputs)
            ),
            keras.optimizers.SGD(0.1),
            seed=seed,
        )
        history = agents.train(
            agent,
            environment,
            epochs=2,
            steps_per_epoch=2,
            segment_length=5,
            checkpoint_directory=directory,
            verbose=0,
        )
        assert "ppr" in history.history
        return agent

    whole = run(tmp_path, 0)
    tasks.go_back(tmp_path, 1)
    resumed = run(tmp_path, 1)
    assert int(resumed.train_step_counter) == 4
    for a, b in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_policy_saver_and_continuous_actions(tmp_path):
    agent = ppr_agent(tasks.CONTINUOUS)
    info = agent.train(tasks.experience(agent))
    assert bool(info.extra["finite"]) and float(info.extra["ppr"]) > 0
    policy_saver.PolicySaver(agent.policy, batch_size=None).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = ts.restart(tf.random.normal((5, 3)), 5)
    found = loaded.action(time_step, loaded.get_initial_state(5))
    expected = agent.policy.action(time_step, agent.policy.get_initial_state(5))
    np.testing.assert_allclose(found.action, expected.action, atol=1e-6)


def test_acts_in_a_python_environment():
    environment = environments.GymnasiumEnvironment("CartPole-v1", 2, seed=0)
    specs = environment.observation_spec(), environment.action_spec()
    agent = agents.PPRAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.ppr_model(*specs, core=core()),
        keras.optimizers.Adam(3e-3),
    )
    found = agents.evaluate(agent.policy, environment, 2)
    assert (found.returns > 5).all()


def test_further_heads_read_the_reaction():
    model = agents.ppr_model(
        tasks.OBSERVATION,
        tasks.DISCRETE,
        core=core(),
        heads={"reward": keras.layers.Dense(3, name="reward_head")},
    )
    assert model.output["outputs"]["reward"].shape == (None, None, 3)
    term = agents.RewardPredictionTerm(tasks.DISCRETE)
    agent = agents.PPRAgent(
        SPEC,
        tasks.DISCRETE,
        model,
        keras.optimizers.Adam(),
        loss_terms=[term],
    )
    data = tasks.experience(agent)
    with tf.GradientTape() as tape:
        loss = agent.loss(data, training=True).extra["reward_prediction"]
    layer = next(x for x in model.layers if isinstance(x, PPRCore))
    names = ("perception", "prediction", "reaction")
    cells = [layer._cells[name].trainable_variables[1] for name in names]
    found = tape.gradient(loss, [v.value for v in cells])
    # Prediction's output is not heard; perception's is, by the slow core.
    assert [g is not None and bool(np.any(g)) for g in found] == [1, 0, 1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="`heads`"):
        agents.ppr_model(
            tasks.OBSERVATION,
            tasks.DISCRETE,
            core=core(),
            heads={"value": keras.layers.Dense(1)},
        )
    with pytest.raises(ValueError, match="`coefficient`"):
        ppr_agent(coefficient=-1.0)
    with pytest.raises(ValueError, match="`pairs`"):
        ppr_agent(pairs=[("reaction", "slow")])
    with pytest.raises(ValueError, match="`stop_gradient`"):
        ppr_agent(stop_gradient="reaction")
    with pytest.raises(ValueError, match="ppr_model"):
        agents.PPRAgent(
            SPEC, tasks.DISCRETE, tasks.model("LSTM"), keras.optimizers.Adam()
        )
    with pytest.raises(ValueError, match="actor_critic_model"):
        agents.ppr_model(
            tasks.OBSERVATION, tasks.DISCRETE, core=keras.layers.LSTM(4)
        )
    with pytest.raises(ValueError, match="return_state=True"):
        agents.ppr_model(tasks.OBSERVATION, tasks.DISCRETE, core=PPRCore(4))
