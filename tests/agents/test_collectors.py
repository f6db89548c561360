"""Collectors elsewhere: what they send, whose weights, and lost ones."""

import os
import signal
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.environments import tf_py_environment

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents import remote_collectors
from keras_sparse_rl.agents.collector_worker import CollectorWorker
from keras_sparse_rl.agents.export_collector import export_collector
from keras_sparse_rl.layers import PPRCore
from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.sparsity import sparsify
from tests.agents import tasks

LENGTH = 6


def specs(environment):
    return environment.time_step_spec(), environment.action_spec()


def seen(environment):
    return environment.observation_spec(), environment.action_spec()


def cart_pole():
    environment = environments.GymnasiumEnvironment("CartPole-v1", 2, seed=0)
    return tasks.maze_agent(environment, "LSTM"), environment


def plain():
    maze = tasks.maze()
    return tasks.maze_agent(maze), maze


def gtrxl():
    maze = tasks.maze()
    return tasks.maze_agent(maze, "GTrXL"), maze


def continuous():
    walk = environments.WalkToTarget(batch_size=3)
    return tasks.maze_agent(walk), walk


def sparse():
    maze = tasks.maze()
    model = agents.actor_critic_model(
        *seen(maze), torso=keras.layers.Dense(16), core=keras.layers.LSTM(4)
    )
    sparsify(model, execution="sparse", verbose=0)
    agent = agents.ActorCriticAgent(
        *specs(maze), model, keras.optimizers.Adam()
    )
    return agent, maze


def mixture():
    maze = tasks.maze()
    policies = [agents.SimplePolicy("turns", actions=[1, 2])]
    agent = agents.MixAndMatchAgent(
        *specs(maze),
        agents.mix_and_match_model(*seen(maze), policies),
        keras.optimizers.Adam(1e-3),
        policies,
        [0.6, 0.4],
    )
    return agent, maze


def reacting():
    maze = tasks.maze()
    model = agents.ppr_model(*seen(maze), core=PPRCore(4, 3, return_state=True))
    return agents.PPRAgent(*specs(maze), model, keras.optimizers.Adam()), maze


def near_a_default():
    maze = tasks.maze()
    agent = agents.KLRegularizedAgent(
        *specs(maze),
        agents.actor_critic_model(*seen(maze)),
        keras.optimizers.Adam(),
        agents.default_policy_model(*seen(maze), core=keras.layers.LSTM(4)),
        keras.optimizers.Adam(),
    )
    return agent, maze


def taught():
    """A student and a teacher with a memory take turns."""
    maze = tasks.maze()
    source = agents.actor_critic_model(*seen(maze), core=keras.layers.GRU(4))
    variant = DistillationVariant("teacher_cross_entropy", teacher_share=0.5)
    term = agents.DistillationTerm(
        agents.Teacher(source, *specs(maze)), variant
    )
    return tasks.maze_agent(maze, "LSTM", loss_terms=[term]), maze


def made(make, start=12345):
    """Agent, what is exported, and a worker with the agent's weights."""
    agent, environment = make()
    exported = export_collector(agent.collect_policy, environment, LENGTH, 0)
    return agent, exported, CollectorWorker(exported.worker, start)


def weights(exported):
    return [v.numpy() for v in exported.weights]


def unpacked(exported, arrays):
    return exported.unpack([tf.constant(x) for x in arrays])


@pytest.mark.parametrize(
    "make",
    [
        cart_pole,
        pytest.param(taught, marks=pytest.mark.slow),
        pytest.param(continuous, marks=pytest.mark.slow),
        pytest.param(gtrxl, marks=pytest.mark.slow),
        pytest.param(mixture, marks=pytest.mark.slow),
        pytest.param(near_a_default, marks=pytest.mark.slow),
        pytest.param(reacting, marks=pytest.mark.slow),
        pytest.param(sparse, marks=pytest.mark.slow),
    ],
)
def test_reports_the_probabilities_of_the_weights_it_was_sent(make):
    keras.utils.set_random_seed(0)
    agent, exported, worker = made(make)
    generator = np.random.default_rng(0)
    sent = [
        (x + generator.normal(0, 0.1, x.shape)).astype(x.dtype)
        if variable.trainable
        else x
        for variable, x in zip(exported.weights, weights(exported))
    ]
    segments = [worker.collect(weights(exported)), worker.collect(sent)]
    first, second = (unpacked(exported, x)[0] for x in segments)
    # The second goes on where the first ended.
    for a, b in zip(
        tf.nest.flatten((first.step_type, first.observation)),
        tf.nest.flatten((second.step_type, second.observation)),
    ):
        np.testing.assert_array_equal(a[:, -1], b[:, 0])
    assert off(agent, first) < 1e-5 < 1e-3 < off(agent, second)
    for variable, x in zip(exported.weights, sent):
        variable.assign(x)
    assert off(agent, second) < 1e-5
    assert np.isfinite(float(agent.train(second).loss))


def ratio(agent, experience):
    """How far log-probabilities are from those that the agent computes."""
    segment = agent._segment(experience, training=False)
    log_probability = segment.log_probability
    for term in agent.loss_terms:
        if isinstance(term, agents.DistillationTerm):
            advice = term.teacher.advise(
                segment.observation,
                segment.is_first,
                segment.memories[term.name],
            ).policy[:, :-1]
            share = term.variant.teacher_share
            chosen = tf.gather(
                tf.nn.softmax(advice), segment.action, batch_dims=2
            )
            log_probability = tf.math.log(
                share * chosen + (1 - share) * tf.exp(log_probability)
            )
    return (log_probability - segment.behaviour_log_probability).numpy()


def off(agent, experience):
    """The largest of these; of densities, which are large, the relative one."""
    found = np.abs(ratio(agent, experience))
    if experience.action.dtype.is_floating:
        segment = agent._segment(experience, training=False)
        found /= np.maximum(1, np.abs(segment.behaviour_log_probability))
    return found.max()


def test_starts_differ_and_repeat():
    _, exported, worker = made(plain)
    same, other = (CollectorWorker(exported.worker, s) for s in (12345, 6))
    first, again, else_ = (
        unpacked(exported, w.collect(weights(exported)))[0].action.numpy()
        for w in (worker, same, other)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != else_).any()


class AsksPython(environments.TMaze):
    def _observe(self, state):
        seen = super()._observe(state)
        return tf.ensure_shape(
            tf.numpy_function(lambda x: x, [seen], seen.dtype), seen.shape
        )


def test_bad_arguments(monkeypatch):
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    for number in (-1, 1.5, True):
        with pytest.raises(ValueError, match="`collectors`"):
            agents.train(agent, maze, collectors=number)
    with pytest.raises(ValueError, match="must not call Python.*PyFunc"):
        export_collector(agent.collect_policy, AsksPython(3, 4), LENGTH, seed=0)
    cart = environments.GymnasiumEnvironment("CartPole-v1", 2)
    agent = tasks.maze_agent(cart)
    wrapped = tf_py_environment.TFPyEnvironment(cart)
    with pytest.raises(ValueError, match="cannot be pickled.*TFPyEnv"):
        export_collector(agent.collect_policy, wrapped, LENGTH, seed=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"collectors=2.*\n.*\n.*_rl\[ray\]"):
        agents.train(agent, cart, collectors=2)


def test_a_checkpoint_of_collectors_is_no_other(tmp_path):
    """What they play is not kept, so that nothing could go on in process."""
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    tf.train.CheckpointManager(
        tf.train.Checkpoint(epoch=tf.Variable(1)), str(tmp_path), 1
    ).save()
    with pytest.raises(ValueError, match="`checkpoint_directory`"):
        agents.train(agent, maze, checkpoint_directory=tmp_path)


class InThisProcess:
    """What of Ray is used, one thing after the other in this process.

    Args:
        order: function from those that are ready to the one to take.
        dies: int, which segment is lost with its collector.
    """

    class DeathError(Exception):
        """All that may happen to a process."""

    exceptions = types.SimpleNamespace(
        RayActorError=DeathError,
        WorkerCrashedError=DeathError,
        ObjectLostError=DeathError,
        OutOfMemoryError=DeathError,
    )

    def __init__(self, order=min, dies=None):
        self.order, self.dies, self.made = order, dies, []
        self.puts = 0

    def is_initialized(self):
        return True

    def available_resources(self):
        return {"CPU": 2}

    def put(self, x):
        self.puts += 1
        return [np.array(each) for each in x] if isinstance(x, list) else x

    def new(self, exported, start):
        worker = CollectorWorker(exported, start)

        def collect(weights):
            self.made.append(lambda: worker.collect(weights))
            return len(self.made) - 1

        return types.SimpleNamespace(
            collect=types.SimpleNamespace(remote=collect)
        )

    def wait(self, waiting, num_returns):
        return [self.order(waiting)], None

    def get(self, number):
        if number == self.dies:
            raise self.DeathError
        return self.made[number]()

    def kill(self, worker):
        pass


@pytest.fixture
def in_this_process(monkeypatch):
    def use(**arguments):
        found = InThisProcess(**arguments)
        monkeypatch.setattr(remote_collectors, "import_ray", lambda _: found)
        remote = types.SimpleNamespace(remote=found.new)
        monkeypatch.setattr(
            remote_collectors, "remote_class", lambda *_: remote
        )
        return found

    return use


def test_a_step_learns_from_a_segment_of_each(in_this_process):
    used = in_this_process()
    maze = tasks.maze()
    keras.utils.set_random_seed(0)
    agent = tasks.maze_agent(maze, "LSTM")
    by_hand = tasks.maze_agent(maze, "LSTM")
    by_hand.model.set_weights(agent.model.get_weights())
    history = train(agent, maze)
    # All but those of the first step are by weights of the step before.
    np.testing.assert_allclose(history["lag"], [7 / 8, 1])
    assert used.puts == 1 + 16  # what is exported, and weights once a step

    starts = [np.random.default_rng([0, i]).integers(2**30) for i in (1, 2)]
    exported = export_collector(by_hand.collect_policy, maze, LENGTH, 0)
    workers = [CollectorWorker(exported.worker, int(s)) for s in starts]
    kept = [weights(exported)] * 2
    episodes = 0
    for _ in range(16):
        found = [unpacked(exported, w.collect(kept[0])) for w in workers]
        experience = tf.nest.map_structure(
            lambda *x: np.concatenate(x), *(part for part, _ in found)
        )
        episodes += sum(float(figures["episodes"]) for _, figures in found)
        by_hand.train(tf.nest.map_structure(tf.constant, experience))
        kept = [kept[1], weights(exported)]
    assert episodes == sum(history["episodes"]) > 0
    for a, b in zip(agent.model.get_weights(), by_hand.model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_slow_collector_is_not_waited_for(in_this_process):
    used = in_this_process(order=max)
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    history = train(agent, maze)
    # The other one's first segment is begun before the step, the second in it.
    np.testing.assert_allclose(history["lag"], [7 / 16, 1 / 2])
    assert len(used.made) == 2 + 2 * 16


def test_the_segment_of_a_lost_collector_is_left_out(in_this_process):
    used = in_this_process(dies=3)
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    with pytest.warns(UserWarning, match="died and is replaced"):
        history = train(agent, maze)
    assert len(used.made) == 2 + 2 * 16 + 1
    assert np.isfinite(history["loss"]).all()


# With Ray


@pytest.fixture(scope="module")
def ray():
    module = pytest.importorskip(
        "ray", reason="Ray, the extra [ray], is not installed"
    )
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()


class Mortal(environments.GymnasiumEnvironment):
    """Kills its process once, in mid-run."""

    def __init__(self, path, deadly=False):
        super().__init__("CartPole-v1", 2, seed=0)
        self._path, self._deadly, self._steps = path, deadly, 0

    def _step(self, action):
        self._steps += 1
        if self._deadly or (self._steps == 30 and not self._path.exists()):
            self._path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._step(action)


def train(agent, environment, epochs=2, **arguments):
    return agents.train(
        agent,
        environment,
        epochs=epochs,
        steps_per_epoch=8,
        segment_length=LENGTH,
        verbose=0,
        collectors=2,
        **arguments,
    ).history


def test_a_killed_collector_is_replaced(ray, tmp_path):
    environment = Mortal(tmp_path / "died")
    agent = tasks.maze_agent(environment, "LSTM")
    with pytest.warns(UserWarning, match="died and is replaced"):
        history = train(agent, environment)
    assert (tmp_path / "died").exists()
    assert int(agent.train_step_counter) == 16
    assert np.isfinite(history["loss"]).all() and history["episodes"][1] > 0
    # The first segment of a step was begun before it; where one collector is
    # being replaced, the other's second one was begun during it.
    assert history["lag"][1] >= 0.5


def test_collectors_that_always_die_end_the_run(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_collectors, "ATTEMPTS", 0)
    environment = Mortal(tmp_path / "died", deadly=True)
    with pytest.raises(RuntimeError, match="before they had collected"):
        train(tasks.maze_agent(environment), environment)
    maze = tasks.maze()
    with pytest.raises(ValueError, match="ray.init"):
        agents.train(tasks.maze_agent(maze), maze, collectors=3, verbose=0)


def test_resumes_with_other_episodes(ray, tmp_path):
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    train(agent, maze, epochs=1, checkpoint_directory=tmp_path)
    kept = agent.model.get_weights()
    agent = tasks.maze_agent(maze)
    train(agent, maze, epochs=1, checkpoint_directory=tmp_path)
    for a, b in zip(agent.model.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)
    history = train(agent, maze, epochs=2, checkpoint_directory=tmp_path)
    assert len(history["loss"]) == 1
    assert int(agent.train_step_counter) == 16
    names = tf.train.load_checkpoint(str(tmp_path))
    key = "collector/_count/.ATTRIBUTES/VARIABLE_VALUE"
    assert names.get_tensor(key) == 4
