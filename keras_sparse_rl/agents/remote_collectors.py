import warnings

import numpy as np
import tensorflow as tf

from keras_sparse_rl.agents.collector_worker import CollectorWorker
from keras_sparse_rl.agents.export_collector import export_collector
from keras_sparse_rl.agents.ray_processes import import_ray
from keras_sparse_rl.agents.ray_processes import remote_class

ATTEMPTS = 3


class RemoteCollectors(tf.Module):
    """Collects segments in processes of Ray, which act by older weights.

    Each process collects one segment after the other, by the weights that are
    the newest when it starts one; who is ready first is learned from next. The
    trajectories hold the log-probabilities that their actions had then. A
    process that dies is replaced while the others go on.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        environment: see `export_collector`.
        segment_length: int, steps of a segment.
        seed: int.
        number: int, processes.
        jit_compile: bool.
    """

    def __init__(
        self,
        policy,
        environment,
        segment_length,
        seed,
        number,
        jit_compile=False,
    ):
        super().__init__(name="collector")
        self._ray = import_ray(f"collectors={number}")
        self._is_owner = not self._ray.is_initialized()
        if not self._is_owner:
            cores = self._ray.available_resources().get("CPU", 0)
            if cores < number:
                raise ValueError(
                    f"Each collector takes a core, and Ray has {cores:g} free. "
                    f"Received: collectors={number}. Ask for fewer, or call "
                    "ray.init(num_cpus=...) with more before."
                )
        self._exported = export_collector(
            policy, environment, segment_length, seed, jit_compile
        )
        self._seed = seed
        self._number = number
        self._jit_compile = jit_compile
        # All that a checkpoint holds: how many processes there have been, so
        # that those after a pause do not play the same episodes again.
        self._count = tf.Variable(0, trainable=False)
        self._version = 0
        self._workers = []
        self._waiting = {}

    def with_learning(self, learn):
        """A function that waits for a segment and learns from it.

        Args:
            learn: function from trajectories and a dict of figures.
        """

        @tf.function(jit_compile=self._jit_compile)
        def joined(tensors, lag):
            experience, figures = self._exported.unpack(tensors)
            return learn(experience, {**figures, "lag": lag})

        def step():
            arrays, lag = self._next()
            self._version += 1
            return joined(
                [tf.constant(x) for x in arrays], tf.constant(float(lag))
            )

        return step

    def close(self):
        """Ends the processes, and Ray if it was started here."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers = []
        if self._is_owner:
            self._ray.shutdown()

    def _next(self):
        """A segment, and how many train steps ago its weights were sent."""
        if not self._workers:
            self._begin()
        while True:
            done, _ = self._ray.wait(list(self._waiting), num_returns=1)
            place, version = self._waiting.pop(done[0])
            errors = self._ray.exceptions
            try:
                arrays = self._ray.get(done[0])
            except (
                errors.RayActorError,
                errors.WorkerCrashedError,
                errors.ObjectLostError,
                errors.OutOfMemoryError,
            ) as error:
                self._replace(place, error)
                continue
            self._deaths[place] = 0
            self._send(place, self._weights())
            return arrays, self._version - version

    def _begin(self):
        if self._is_owner:
            self._ray.init(
                num_cpus=self._number,
                include_dashboard=False,
                log_to_driver=False,
            )
        self._class = remote_class(self._ray, CollectorWorker)
        self._shared = self._ray.put(self._exported.worker)
        self._deaths = [0] * self._number
        self._workers = [self._new() for _ in range(self._number)]
        weights = self._weights()
        for place in range(self._number):
            self._send(place, weights)

    def _new(self):
        count = int(self._count.assign_add(1))
        start = np.random.default_rng([self._seed, count]).integers(2**30)
        return self._class.remote(self._shared, int(start))

    def _replace(self, place, error):
        self._deaths[place] += 1
        if self._deaths[place] > ATTEMPTS:
            raise RuntimeError(
                f"A collector and the {ATTEMPTS} after it died before they "
                "had collected anything. Is there memory for so many "
                f"processes? Received: collectors={self._number}."
            ) from error
        warnings.warn(
            "A collector died and is replaced; its segment is lost, and new "
            f"episodes begin. Ray says: {error}",
            stacklevel=2,
        )
        self._workers[place] = self._new()
        self._send(place, self._weights())

    def _send(self, place, weights):
        segment = self._workers[place].collect.remote(weights)
        self._waiting[segment] = place, self._version

    def _weights(self):
        return self._ray.put([v.numpy() for v in self._exported.weights])
