"""Members of a population in processes of Ray."""

from keras_sparse_rl.agents.population_worker import PopulationWorker
from keras_sparse_rl.agents.ray_processes import import_ray
from keras_sparse_rl.agents.ray_processes import remote_class

ATTEMPTS = 3


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
        self._ray = import_ray("engine='ray'")
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False)
        self._make_member = make_member
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._workers = [self._new() for _ in range(max(1, min(size, cores)))]

    def _new(self):
        return remote_class(self._ray, PopulationWorker).remote(
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
