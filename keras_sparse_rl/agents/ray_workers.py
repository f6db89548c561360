"""Members of a population in processes of Ray."""

import os

from keras_sparse_rl.agents.population_worker import PopulationWorker

ATTEMPTS = 3


def import_ray():
    """The module `ray`, or an error that says how it is installed."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "`engine='ray'` needs Ray. Install it by\n\n"
            '    pip install "keras_sparse_rl[ray]"'
        ) from error
    return ray


class RayWorkers:
    """Plays the members of a population in parallel.

    A call has all that it needs in its arguments, so one that was lost with
    its process is made again, with the same result.

    Args:
        make_member: function without arguments.
        size: int, members; there are at most so many processes, and as many
            as the cluster has cores.
    """

    def __init__(self, make_member, size):
        self._ray = import_ray()
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False)
        self._make_member = make_member
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._workers = [self._new() for _ in range(max(1, min(size, cores)))]

    def _new(self):
        # A process each: TensorFlow's own threads would only compete.
        variables = {"TF_NUM_INTRAOP_THREADS": "1"}
        if "TF_USE_LEGACY_KERAS" in os.environ:
            variables["TF_USE_LEGACY_KERAS"] = os.environ["TF_USE_LEGACY_KERAS"]
        actor = self._ray.remote(num_cpus=1)(PopulationWorker)
        return actor.options(runtime_env={"env_vars": variables}).remote(
            self._make_member
        )

    def play_all(self, jobs):
        """Score and state for each list of arguments of the workers' `play`."""
        results, lost = [None] * len(jobs), 0
        waiting, running = list(enumerate(jobs))[::-1], {}
        idle = list(self._workers)
        while waiting or running:
            while waiting and idle:
                number, job = waiting.pop()
                worker = idle.pop()
                running[worker.play.remote(*job)] = number, job, worker
            done, _ = self._ray.wait(list(running), num_returns=1)
            number, job, worker = running.pop(done[0])
            try:
                results[number] = self._ray.get(done[0])
            except self._ray.exceptions.RayActorError:
                lost += 1
                if lost > ATTEMPTS:
                    raise
                waiting.append((number, job))
                place = self._workers.index(worker)
                worker = self._workers[place] = self._new()
            idle.append(worker)
        return results

    def close(self):
        """Ends the processes."""
        for worker in self._workers:
            self._ray.kill(worker)
