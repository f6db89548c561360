"""TopKAST beside the `Learner` of TF-Agents."""

import keras
import numpy as np
import tensorflow as tf
from tf_agents.agents import DqnAgent
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from keras_sparse_rl.agents import KerasNetwork
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from tests.agents.tasks import DISCRETE
from tests.agents.tasks import OBSERVATION


def experience():
    generator = np.random.default_rng(0)
    kinds = tf.ones((8, 2), tf.int32)
    steps = trajectory.Trajectory(
        step_type=kinds,
        observation=tf.constant(generator.normal(size=(8, 2, 3)), tf.float32),
        action=tf.constant(generator.integers(0, 3, (8, 2)), tf.int32),
        policy_info=(),
        next_step_type=kinds,
        reward=tf.constant(generator.normal(size=(8, 2)), tf.float32),
        discount=tf.ones((8, 2)),
    )
    return tf.data.Dataset.from_tensors((steps, ())).repeat()


def test_top_kast_is_a_trigger(tmp_path):
    from tf_agents.train.learner import Learner

    model = keras.Sequential(
        [keras.Input((3,)), PowerpropDense(40, "relu"), keras.layers.Dense(3)]
    )
    # A target network must not share the layer, so TF-Agents copies it.
    optimizer = Powerprop(keras.optimizers.Adam(1e-2))
    agent = DqnAgent(
        ts.time_step_spec(OBSERVATION),
        DISCRETE,
        q_network=KerasNetwork(model, OBSERVATION),
        optimizer=optimizer,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    model.optimizer = optimizer
    top_kast = TopKAST(0.25, refresh_every=2)
    top_kast.start(model)
    refreshed = []
    learner = Learner(
        str(tmp_path),
        agent.train_step_counter,
        agent,
        experience_dataset_fn=experience,
        checkpoint_interval=0,
        summary_interval=0,
        triggers=[lambda step: refreshed.append(top_kast.update())],
    )
    layer = model.layers[0]
    assert np.count_nonzero(layer.kernel) == 30
    before = layer.theta.numpy()
    outside = ~top_kast.kernels[layer.name].backward_mask()
    learner.run(iterations=1)
    moved = layer.theta.numpy() != before
    assert moved.any() and not moved[outside].any()
    for _ in range(3):
        learner.run(iterations=1)
    top_kast.finish()
    assert refreshed == [False, True, False, True]
    assert np.count_nonzero(layer.kernel) == 30
