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
    the newest when it starts one. A train step learns from as many segments as
    there are processes, those that are ready first, so that they are collected
    while the step before is made. Of processes that are equally fast the
    weights are then one step old; those of a slow one are older, and a fast one
    may send several segments in a step. The trajectories hold the
    log-probabilities that their actions had then. A process that dies is
    replaced while the others go on.

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
        self._seed = seed
        self._jit_compile = jit_compile
        # All that a checkpoint holds: how many processes there have been, so
        # that those after a pause do not play the same episodes again.
        self._count = tf.Variable(0, trainable=False)
        self._pool = _Pool(
            import_ray(f"collectors={number}"),
            export_collector(
                policy, environment, segment_length, seed, jit_compile
            ),
            number,
            self._new_start,
        )

    def with_learning(self, learn):
        """A function that waits for segments and learns from them.

        Args:
            learn: function from trajectories and a dict of figures.
        """
        pool = self._pool

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def joined(segments, lag):
            experiences, figures = zip(*map(pool.exported.unpack, segments))
            experience = tf.nest.map_structure(
                lambda *x: tf.concat(x, axis=0), *experiences
            )
            totals = tf.nest.map_structure(lambda *x: tf.add_n(x), *figures)
            return learn(experience, {**totals, "lag": lag})

        def step():
            segments, lag = pool.segments()
            return joined(
                [[tf.constant(x) for x in arrays] for arrays in segments],
                tf.constant(lag),
            )

        return step

    def close(self):
        """Ends the processes, and Ray if it was started here."""
        self._pool.close()

    def _new_start(self):
        count = int(self._count.assign_add(1))
        return int(np.random.default_rng([self._seed, count]).integers(2**30))


class _Pool:
    """The processes, of which a checkpoint holds nothing.

    Args:
        exported: `ExportedCollector`.
        number: int, processes.
        new_start: function without arguments, chooses episodes of a new one.
    """

    def __init__(self, ray, exported, number, new_start):
        self.exported = exported
        self._ray = ray
        self._number = number
        self._new_start = new_start
        self._is_owner = not ray.is_initialized()
        self._version = 0  # train steps made
        self._sent = None, None  # the last weights sent, their version
        self._workers = []
        self._waiting = {}
        if not self._is_owner:
            cores = ray.available_resources().get("CPU", 0)
            if cores < number:
                raise ValueError(
                    f"Each collector takes a core, and Ray has {cores:g} free. "
                    f"Received: collectors={number}. Ask for fewer, or call "
                    "ray.init(num_cpus=...) with more before."
                )

    def close(self):
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers = []
        self._sent = None, None
        if self._is_owner:
            self._ray.shutdown()

    def segments(self):
        """As many as there are processes, and their weights' mean age.

        The age is that in train steps: one is made with what is returned.
        """
        if not self._workers:
            self._begin()
        found, lags = zip(*(self._next() for _ in range(self._number)))
        self._version += 1
        return found, sum(lags) / self._number

    def _next(self):
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
        self._shared = self._ray.put(self.exported.worker)
        self._deaths = [0] * self._number
        self._workers = [self._new() for _ in range(self._number)]
        weights = self._weights()
        for place in range(self._number):
            self._send(place, weights)

    def _new(self):
        return self._class.remote(self._shared, self._new_start())

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
        weights, version = self._sent
        if version != self._version:
            weights = self._ray.put([v.numpy() for v in self.exported.weights])
            self._sent = weights, self._version
        return weights
