"""How policies' heads start, and that a memory is learned through them."""

import keras
import numpy as np
import pytest
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import PPRCore
from tests.agents import tasks

WIDE = tasks.OBSERVATION, BoundedTensorSpec((), "int32", 0, 499)
SIMPLE = agents.SimplePolicy("simple", memory=False)
HEADS = {  # how a model is made, and the scales of its policies' heads
    "no memory": (lambda **a: agents.actor_critic_model(*WIDE, **a), [0.01]),
    "memory": (
        lambda **a: agents.actor_critic_model(
            *WIDE, core=keras.layers.GRU(16), **a
        ),
        [0.3],
    ),
    "PPR, three heads": (
        lambda **a: agents.ppr_model(*WIDE, shared_heads=False, **a),
        [0.3, 0.3, 0.3],
    ),
    "Mix&Match": (
        lambda **a: agents.mix_and_match_model(
            *WIDE, [SIMPLE], core=keras.layers.GRU(16), **a
        ),
        [0.3, 0.01],
    ),
    "default": (
        lambda **a: agents.default_policy_model(
            *WIDE, core=keras.layers.GRU(16)
        ),
        [0.3],
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_scale_of_the_policy_heads(kind):
    make, expected = HEADS[kind]
    for given in (None, 0.5):
        keras.utils.set_random_seed(0)
        model = make(policy_head_stddev=given)
        found = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.Dense) and layer.units == 500
        ]
        assert len(found) == len(expected)
        if given is not None and kind != "default":
            expected = [given] * len(expected)
        for head, stddev in zip(found, expected):
            np.testing.assert_allclose(np.std(head.kernel), stddev, rtol=0.1)


@pytest.mark.parametrize("kind", [k for k in HEADS if k != "default"])
def test_scales_that_are_none(kind):
    for bad in (0, -1.0, "0.3", np.nan):
        with pytest.raises(ValueError, match="`policy_head_stddev`"):
            HEADS[kind][0](policy_head_stddev=bad)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "PPR"])
def test_a_memory_is_learned_by_its_policy_alone(kind):
    """Without a memory a T-maze earns 0 at most."""
    keras.utils.set_random_seed(0)
    maze = environments.TMaze(length=8, batch_size=32)
    specs = maze.observation_spec(), maze.action_spec()
    if kind == "LSTM":
        make, model = (
            agents.ActorCriticAgent,
            agents.actor_critic_model(*specs, core=keras.layers.LSTM(32)),
        )
    else:
        memory = PPRCore(32, slow_period=4, return_state=True)
        make, model = agents.PPRAgent, agents.ppr_model(*specs, core=memory)
    agent = make(
        maze.time_step_spec(),
        specs[1],
        model,
        keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
        trace_decay=0.95,
    )
    history = agents.train(
        agent,
        maze,
        epochs=10,
        steps_per_epoch=20,
        segment_length=32,
        jit_compile=True,
        verbose=0,
    ).history
    assert history["return"][-1] > 0.8
