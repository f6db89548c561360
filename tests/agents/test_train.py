"""The training loop: what it learns, records, resumes and refuses."""

import gc
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.environments import tf_py_environment

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import layers
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import sparsify
from tests.agents import tasks

ROOT = pathlib.Path(__file__).parent.parent.parent


def weights(agent):
    return [
        v.numpy()
        for v in (*agent.model.variables, *agent.model.optimizer.variables)
    ]


def assert_same(first, second):
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_learns_the_maze_in_graph_and_in_python():
    """Without a memory the corridor can be learned, not the sign."""
    maze = tasks.maze(16, length=2)
    python = tf_py_environment.TFPyEnvironment(
        environments.GymnasiumEnvironment("CartPole-v1", batch_size=4, seed=0)
    )
    for environment, before in ((maze, -0.45), (python, 22.0)):
        agent = tasks.maze_agent(
            environment, optimizer=keras.optimizers.Adam(1e-2)
        )
        history = agents.train(
            agent,
            environment,
            epochs=2,
            steps_per_epoch=40,
            segment_length=16,
            verbose=0,
        ).history
        assert history["return"][1] > history["return"][0]
        assert history["return"][1] > before + 0.2 * abs(before)
        assert history["episodes"][1] > 0


def test_records_what_happened(tmp_path, capsys):
    environment = tasks.maze()
    agent = tasks.maze_agent(environment)
    history = agents.train(
        agent,
        environment,
        epochs=2,
        steps_per_epoch=3,
        segment_length=40,
        evaluation_environment=tasks.maze(seed=7),
        evaluation_episodes=8,
        callbacks=[keras.callbacks.TensorBoard(str(tmp_path))],
        verbose=1,
    ).history
    assert set(history) == {
        "loss",
        "policy",
        "value",
        "entropy",
        "gradient_norm",
        "episodes",
        "return",
        "evaluation_return",
        "evaluation_low",
        "evaluation_high",
    }
    assert "Epoch 2/2" in capsys.readouterr().out
    events = list(tmp_path.rglob("*tfevents*"))
    written = {
        value.tag
        for path in events
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert "epoch_evaluation_return" in written
    assert int(agent.train_step_counter) == 6
    assert int(agent.model.optimizer.iterations) == 6


def test_resumes_bit_for_bit(tmp_path):
    def run():
        keras.utils.set_random_seed(0)
        environment = tasks.maze()
        agent = tasks.maze_agent(environment, "LSTM")
        history = agents.train(
            agent,
            environment,
            epochs=3,
            steps_per_epoch=3,
            segment_length=5,
            checkpoint_directory=tmp_path,
            verbose=0,
        )
        return agent, history.epoch

    whole, _ = run()
    tasks.go_back(tmp_path, 2)
    resumed, epochs = run()
    assert epochs == [2]
    assert_same(resumed, whole)
    assert int(whole.train_step_counter) == 9


def test_resting_weights_resume(tmp_path):
    """Top-KAST brings back weights that no variable holds."""

    def run(epochs, directory, seed):
        keras.utils.set_random_seed(seed)
        environment = tasks.maze()
        agent = agents.ActorCriticAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            agents.actor_critic_model(
                environment.observation_spec(),
                environment.action_spec(),
                torso=layers.SparseDense(16, density=0.3, alpha=2.0),
            ),
            Powerprop(keras.optimizers.Adam(1e-1)),
        )
        agents.train(
            agent,
            environment,
            epochs=epochs,
            steps_per_epoch=3,
            segment_length=5,
            callbacks=[TopKAST(0.2, 0.4, refresh_every=2)],
            checkpoint_directory=directory,
            verbose=0,
        )
        return agent, layers.sparse_kernels(agent.model)[0]

    whole, kernel = run(4, tmp_path / "whole", 0)
    _, before = run(2, tmp_path / "parts", 0)
    # Another start, of which nothing may be left.
    resumed, other = run(4, tmp_path / "parts", 1)
    assert (before.backward_mask() != kernel.backward_mask()).any()
    assert_same(resumed, whole)
    np.testing.assert_array_equal(other.dense_theta(), kernel.dense_theta())
    np.testing.assert_array_equal(other.resting(), kernel.resting())


KILLED = """
import sys
import keras
from keras_sparse_rl import agents
from tests.agents import tasks
from tests.agents.test_train import weights
import numpy as np

keras.utils.set_random_seed(0)
environment = tasks.maze()
agent = tasks.maze_agent(environment, "LSTM")
agents.train(agent, environment, epochs=12, steps_per_epoch=20,
             checkpoint_directory=sys.argv[1], verbose=0)
np.savez(sys.argv[2], *weights(agent))
"""


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path):
    def start(name):
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                KILLED,
                tmp_path / name,
                tmp_path / f"{name}.npz",
            ],
            cwd=ROOT,
        )

    assert start("whole").wait() == 0
    for checkpoints in (2, 5):
        process = start("killed")
        while not (tmp_path / "killed" / f"ckpt-{checkpoints}.index").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed.npz").exists()
    assert start("killed").wait() == 0
    whole = np.load(tmp_path / "whole.npz")
    resumed = np.load(tmp_path / "killed.npz")
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], resumed[name])


def test_top_kast_keeps_a_policy_sparse():
    environment = tasks.maze()
    model = agents.actor_critic_model(
        environment.observation_spec(),
        environment.action_spec(),
        core=layers.GTrXL(1, 2, 4, 8, 4, return_state=True),
    )
    sparsify(model, alpha=2.0, verbose=0)
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        Powerprop(keras.optimizers.Adam(1e-2)),
    )
    history = agents.train(
        agent,
        environment,
        epochs=2,
        steps_per_epoch=6,
        segment_length=5,
        callbacks=[TopKAST(0.2, 0.5, refresh_every=2)],
        verbose=0,
    ).history
    assert "density" in " ".join(history)
    kernels = layers.sparse_kernels(model)
    assert len(kernels) > 5
    kept = sum((k.mask.numpy() & 1).sum() for k in kernels)
    total = sum(k.mask.shape.num_elements() for k in kernels)
    assert kept / total == pytest.approx(0.2, abs=0.02)


def test_never_retraces():
    environment = tasks.maze()
    traces = []

    class Counting(agents.LossTerm):
        def loss(self, segment):
            traces.append(None)

    agent = tasks.maze_agent(environment, loss_terms=[Counting()])
    agents.train(
        agent,
        environment,
        epochs=3,
        steps_per_epoch=20,
        segment_length=4,
        verbose=0,
    )
    assert len(traces) == 1
    python = environments.GymnasiumEnvironment("CartPole-v1", 2, seed=0)
    traces.clear()
    agent = tasks.maze_agent(python, loss_terms=[Counting()])
    agents.train(
        agent,
        python,
        epochs=3,
        steps_per_epoch=5,
        segment_length=4,
        verbose=0,
    )
    assert len(traces) == 1


def test_stops_where_a_loss_is_not_finite(tmp_path):
    class Explodes(agents.LossTerm):
        def loss(self, segment):
            late = tf.cast(agent.train_step_counter >= 4, tf.float32)
            return segment.value[:, :-1] / (1 - late)

    environment = tasks.maze()
    agent = tasks.maze_agent(environment, loss_terms=[Explodes()])

    def train():
        agents.train(
            agent,
            environment,
            epochs=4,
            steps_per_epoch=2,
            segment_length=5,
            checkpoint_directory=tmp_path,
            verbose=0,
        )

    with pytest.raises(FloatingPointError, match="step 5.*'Explodes'"):
        train()
    assert all(np.isfinite(w).all() for w in weights(agent))
    assert sorted(p.name for p in tmp_path.glob("*.index")) == [
        "ckpt-1.index",
        "ckpt-2.index",
    ]


def test_no_code_is_rewritten():
    """As in `fit`: compiling takes half as long without AutoGraph."""

    class Decides(agents.LossTerm):
        def loss(self, segment):
            if tf.reduce_any(segment.is_first):
                return segment.reward_t
            return -segment.reward_t

    maze = tasks.maze()
    agent = tasks.maze_agent(maze, loss_terms=[Decides()])
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        agents.train(agent, maze, epochs=1, steps_per_epoch=1, verbose=0)


def test_callbacks_may_stop_it():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    environment = tasks.maze()
    agent = tasks.maze_agent(environment)
    history = agents.train(
        agent,
        environment,
        epochs=5,
        steps_per_epoch=1,
        segment_length=3,
        callbacks=[Stop()],
        verbose=0,
    )
    assert len(history.history["loss"]) == 1


def test_evaluation_does_not_favour_short_episodes():
    """Copies take turns: of random players, by chance some end early."""
    environment = tasks.maze(50, length=1)
    agent = tasks.maze_agent(environment)
    found = agents.evaluate(agent.collect_policy, environment, 400)
    # Penalties of a random player, 0.25 on average, and a fair bet.
    assert found.returns.shape == (400,)
    spread = 4 * found.returns.std() / 20
    assert found.mean == pytest.approx(-0.25, abs=spread)


def test_bad_arguments():
    environment = tasks.maze()
    agent = tasks.maze_agent(environment)
    cart = environments.GymnasiumEnvironment("CartPole-v1")
    for arguments, words in (
        ({"epochs": 0}, "`epochs`"),
        ({"segment_length": 0}, "`segment_length`"),
        ({"evaluation_environment": environment}, "second one"),
        ({"evaluation_environment": cart}, "`evaluation_environment`"),
    ):
        with pytest.raises(ValueError, match=words):
            agents.train(agent, environment, verbose=0, **arguments)
    with pytest.raises(ValueError, match="action_spec of `environment`"):
        agents.train(agent, cart)
    with pytest.raises(ValueError, match="GymnasiumEnvironment"):
        agents.train(agent, cart.gymnasium)
    with pytest.raises(ValueError, match="`agent`"):
        agents.train(agent.model, environment)
    endless = environments.TMaze(1000, batch_size=1)
    with pytest.raises(RuntimeError, match="time_limit=64"):
        agents.evaluate(agent.policy, endless, 1, time_limit=64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["in-graph", "Python"])
def test_memory_is_flat_over_ten_thousand_iterations(kind):
    traces, sizes = [], []

    class Counted(agents.LossTerm):
        def loss(self, segment):
            traces.append(1)
            return tf.zeros_like(segment.reward_t)

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            gc.collect()
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    if kind == "Python":
        environment = environments.GymnasiumEnvironment("CartPole-v1", 2, 0)
    else:
        environment = tasks.maze(batch_size=2)
    agent = tasks.maze_agent(environment, "LSTM", loss_terms=[Counted()])
    agents.train(
        agent,
        environment,
        epochs=10,
        steps_per_epoch=1000,
        segment_length=2,
        callbacks=[Watch()],
        verbose=0,
    )
    assert len(traces) == 1
    assert sizes[-1] - sizes[1] < 5, sizes
