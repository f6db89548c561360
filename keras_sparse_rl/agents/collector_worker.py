import contextlib
import pathlib
import tempfile

import cloudpickle
import numpy as np
import tensorflow as tf
from tf_agents.environments import py_environment

from keras_sparse_rl.agents.python_player import PythonPlayer
from keras_sparse_rl.sparsity import load_sparse_ops


class CollectorWorker:
    """Collects segments in a process that knows neither agent nor model.

    What it runs are graphs, so that no code of the agent's has to be found
    there, and of an environment in TensorFlow none either.

    Args:
        exported: `ExportedCollector`, its part for workers.
        start: int, chooses episodes and actions.
    """

    def __init__(self, exported, start):
        self._exported = exported
        self._start = start
        self._graphs = None

    def collect(self, weights):
        """One segment, from where the last one ended.

        Args:
            weights: list of arrays, what the policy's variables are to be.

        Returns:
            List of arrays.
        """
        if self._graphs is None:  # here, so that an error is the caller's
            self._load()
        for variable, value in zip(self._weights, weights, strict=True):
            variable.assign(value)
        return [np.asarray(x) for x in tf.nest.flatten(self._play())]

    def _load(self):
        exported = self._exported
        if exported["needs_sparse_ops"]:
            load_sparse_ops()
        with tempfile.TemporaryDirectory() as folder:
            for name, content in exported["files"].items():
                path = pathlib.Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._graphs = tf.saved_model.load(folder)
        self._weights = list(self._graphs.weights)
        if exported["environment"] is None:
            self._graphs.start(tf.constant(self._start))
            self._play = self._graphs.collect
            return
        environment = cloudpickle.loads(exported["environment"])
        if isinstance(environment, py_environment.PyEnvironment):
            # TF-Agents' answer of environments that have no seed.
            with contextlib.suppress(NotImplementedError):
                environment.seed(self._start)
        length = exported["segment_length"]
        player = PythonPlayer(
            self._graphs.act.concrete_functions[0],
            [tf.constant(x) for x in exported["state"]],
            environment,
            length,
        )
        self._counts = iter(range(self._start, 2**31 - 1, length))
        self._play = lambda: player.play(next(self._counts))
