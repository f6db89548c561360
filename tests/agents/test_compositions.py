"""A default policy, a teacher and a gate in one agent, all with memories."""

import keras
import numpy as np
import pytest
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.gradients import GradientGate
from keras_sparse_rl.losses import DistillationVariant
from tests.agents import tasks
from tests.agents import test_kl_regularized_agent as default_policies


def part_of(spec, *keys):
    return {key: spec[key] for key in keys}


def term(time_step_spec, action_spec, keys, variant, gate=None):
    """A teacher with a memory that sees a part of the observation."""
    keras.utils.set_random_seed(7)
    source = agents.actor_critic_model(
        part_of(time_step_spec.observation, *keys),
        action_spec,
        core=keras.layers.GRU(4),
    )
    for weight in source.trainable_variables:
        # Policies start nearly equal.
        weight.assign(keras.random.normal(weight.shape, stddev=0.5, seed=7))
    teacher = agents.Teacher(source, time_step_spec, action_spec, list(keys))
    return agents.DistillationTerm(teacher, variant, 0.5, gate=gate)


def test_terms_do_not_change_each_other():
    """Together each is what it is alone."""
    specs = ts.time_step_spec(default_policies.SPEC), tasks.DISCRETE
    taught = term(*specs, ("hidden", "seen"), "expected_kl")
    alone = default_policies.new_agent(core="LSTM")
    together = default_policies.new_agent(core="LSTM", loss_terms=[taught])
    keras.utils.set_random_seed(0)
    plain = agents.ActorCriticAgent(
        *specs,
        agents.actor_critic_model(
            default_policies.SPEC, tasks.DISCRETE, core=keras.layers.LSTM(5)
        ),
        keras.optimizers.SGD(0.1),
        loss_terms=[taught],
    )
    found = [
        agent.loss(default_policies.experience(agent)).extra
        for agent in (alone, together, plain)
    ]
    kl, both, distilled = ({k: float(v) for k, v in x.items()} for x in found)
    for name in ("kl", "default", "reward_kl"):
        assert both[name] == pytest.approx(kl[name], abs=1e-7)
    for name in ("distillation", "reward_distillation"):
        if name in distilled:
            assert both[name] == pytest.approx(distilled[name], rel=1e-5)
    assert both["distillation"] > 1e-3


def rooms_agent(environment, seed):
    """The teacher acts half of the time, and its loss has a gate."""
    specs = environment.time_step_spec(), environment.action_spec()
    observation, action = specs[0].observation, specs[1]
    taught = term(
        *specs,
        ("position", "target"),
        DistillationVariant("teacher_cross_entropy", teacher_share=0.5),
        GradientGate(),
    )
    keras.utils.set_random_seed(seed)
    return agents.KLRegularizedAgent(
        *specs,
        agents.actor_critic_model(
            observation, action, core=keras.layers.LSTM(4)
        ),
        keras.optimizers.Adam(1e-2),
        agents.default_policy_model(
            part_of(observation, "walls"), action, core=keras.layers.GRU(4)
        ),
        keras.optimizers.Adam(1e-2),
        target_period=3,
        alpha=0.1,
        loss_terms=[taught],
    )


@pytest.mark.slow  # tests/pairs does the same with all ten papers at once
def test_learns_and_resumes_bit_for_bit(tmp_path):
    def run(directory, seed):
        environment = environments.GoToTarget(size=5, batch_size=2)
        agent = rooms_agent(environment, seed)
        history = agents.train(
            agent,
            environment,
            epochs=2,
            steps_per_epoch=4,
            segment_length=5,
            checkpoint_directory=directory,
            verbose=0,
        ).history
        variables = [*agent.model.variables, *agent.other_variables]
        variables += [v for each, _ in agent.optimizers for v in each.variables]
        variables += [v for gate in agent.gates for v in gate.variables]
        return history, [np.array(v) for v in variables], agent

    history, whole, agent = run(tmp_path, 0)
    for name in ("kl", "default", "distillation", "cosine_distillation"):
        assert np.isfinite(history[name]).all() and np.any(history[name])
    assert 0 <= history["weight_distillation"][0] <= 1
    # The student acts by the mixture, so that its own policy is corrected.
    state = agent.collect_policy.get_initial_state(2)
    assert set(state) == {"student", "teacher"}
    assert set(state["student"]) == {"policy", "default"}
    tasks.go_back(tmp_path, 1)
    later, resumed, _ = run(tmp_path, 5)
    assert len(later["loss"]) == 1
    for a, b in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(a, b)
