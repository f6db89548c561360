import collections
import json
import math
import os
import pathlib

import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.agents.hyperparameter import Hyperparameter
from keras_sparse_rl.agents.population_worker import PopulationWorker
from keras_sparse_rl.agents.ray_workers import RayWorkers

PopulationResult = collections.namedtuple(
    "PopulationResult", ["score", "hyperparameters", "state", "history"]
)
PopulationResult.__doc__ = """What `train_population` returns.

The best member's last `score`, `hyperparameters` and `state` (for
`member.set_state`), and the `history`: a dict for each round and member with
`round`, `member`, `rounds_trained`, `score`, `hyperparameters`, and
`copied_from`, the member that it was replaced by after the round, or None.

Example:

>>> from keras_sparse_rl.agents import PopulationResult
>>> PopulationResult(1.0, {"rate": 0.1}, [], []).score
1.0
"""


def train_population(
    make_member,
    hyperparameters,
    size=8,
    rounds=10,
    quantile=0.25,
    resample_probability=0.25,
    directory=None,
    engine="in_process",
    seed=0,
):
    """Population-based training: hyperparameters are learned on the way.

    See "Population Based Training of Neural Networks" by Jaderberg et al. 2017
    (https://arxiv.org/abs/1711.09846). All members train for a round; then
    each of the worst goes on from the state of one of the best, with
    hyperparameters near that one's. Equal seeds give equal results to the bit,
    also after an interruption and with either engine. A member that diverged
    has no state to copy and is replaced; no member ever starts again from the
    beginning.

    Args:
        make_member: function without arguments that returns a
            `PopulationMember`. Called once; with Ray once in each process.
        hyperparameters: dict of `Hyperparameter` by name.
        size: int, members, at least 2.
        rounds: int.
        quantile: float in (0, 0.5], share of members that are replaced and
            share that they are replaced by; one of each at least.
        resample_probability: float in [0, 1], with which a hyperparameter of a
            replaced member is drawn anew instead of moved by a step.
        directory: path. The population is written after each round, and
            training goes on from what is found there.
        engine: `"in_process"`, or `"ray"`: members train in parallel in
            processes of Ray, on one machine or the cluster that `ray.init`
            has joined. A process that dies is replaced and its work repeated.
        seed: int.

    Returns:
        `PopulationResult`.

    Raises:
        ValueError: if an argument is out of range, or the directory holds
            another population.
        ImportError: if the engine is Ray and it is not installed.
        RuntimeError: if all members diverged.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import agents
    >>> class Climber(agents.PopulationMember):
    ...     def reset(self, seed):
    ...         self.height = np.zeros(1)
    ...     def train(self, hyperparameters):
    ...         self.height += hyperparameters["rate"]
    ...         return float(self.height[0])
    ...     def get_state(self):
    ...         return [self.height]
    ...     def set_state(self, state):
    ...         self.height = state[0].copy()
    >>> result = agents.train_population(
    ...     Climber, {"rate": agents.Hyperparameter(0.0, 1.0)}, size=4,
    ...     rounds=20)
    >>> result.hyperparameters
    {'rate': 1.0}
    """
    if not hyperparameters or not all(
        isinstance(value, Hyperparameter) for value in hyperparameters.values()
    ):
        raise ValueError(
            "`hyperparameters` must be a dict of agents.Hyperparameter by "
            f"name. Received: hyperparameters={hyperparameters!r}."
        )
    if check_integer("size", size) < 2:
        raise ValueError(
            "`size` must be at least 2: a population of one has nobody to "
            f"learn from. Received: size={size}. Train it by agents.train."
        )
    check_integer("rounds", rounds)
    check_integer("seed", seed, minimum=0)
    check_unit("resample_probability", resample_probability)
    if not 0 < check_unit("quantile", quantile) <= 0.5:
        raise ValueError(
            "`quantile` must lie in (0, 0.5]: nobody is both among the best "
            f"and the worst. Received: quantile={quantile}."
        )
    check_choice("engine", engine, ("in_process", "ray"))
    search = _Search(
        hyperparameters, size, quantile, resample_probability, seed
    )
    store = None if directory is None else _Store(directory)
    population, history = search.start(), []
    if store is not None and store.exists():
        population, history = store.read(search.settings())
        if len(history) > rounds * size:
            raise ValueError(
                f"`directory`={str(directory)!r} holds a population that has "
                f"been trained for {len(history) // size} rounds. Received: "
                f"rounds={rounds}. Ask for at least as many, or choose "
                "another directory."
            )
    workers = None
    for number in range(len(history) // size, rounds):
        if workers is None:
            workers = (
                RayWorkers(make_member, size)
                if engine == "ray"
                else PopulationWorker(make_member)
            )
        population, rows = search.round(population, number, workers.play_all)
        history += rows
        if store is not None:
            store.write(search.settings(), population, history, number)
    if engine == "ray" and workers is not None:
        workers.close()
    last = [row for row in history if row["round"] == rounds - 1]
    # In the order of `round`: this one has not been replaced.
    best = max(last, key=lambda row: (_rank(row["score"]), row["member"]))
    return PopulationResult(
        best["score"],
        best["hyperparameters"],
        population[best["member"]]["state"],
        history,
    )


class _Search:
    """Who is replaced by whom, and what is tried next."""

    def __init__(self, hyperparameters, size, quantile, resample, seed):
        self._hyperparameters = hyperparameters
        self._size = size
        self._replaced = max(1, int(quantile * size))
        self._resample = resample
        self._seed = seed

    def settings(self):
        return {
            "hyperparameters": {
                name: [value.low, value.high, value.log, value.step]
                for name, value in self._hyperparameters.items()
            },
            "size": self._size,
            "replaced": self._replaced,
            "resample_probability": self._resample,
            "seed": self._seed,
        }

    def start(self):
        population = []
        for member in range(self._size):
            generator = np.random.default_rng([self._seed, member])
            values = {
                name: value.sample(generator)
                for name, value in self._hyperparameters.items()
            }
            population.append(
                {"state": None, "hyperparameters": values, "rounds": 0}
            )
        return population

    def round(self, population, number, play_all):
        """Trains and replaces: the next population, and rows of history."""
        played = play_all(
            [
                (m["state"], self._seed * self._size + k, m["hyperparameters"])
                for k, m in enumerate(population)
            ]
        )
        scores = [score for score, _ in played]
        if all(map(math.isnan, scores)):
            raise RuntimeError(
                f"All {self._size} members diverged in round {number}. Lower "
                "the bounds of the learning rate, or clip gradients."
            )
        trained = [
            {**m, "state": state, "rounds": m["rounds"] + (state is not None)}
            for m, (_, state) in zip(population, played)
        ]
        order = sorted(range(self._size), key=lambda k: (_rank(scores[k]), k))
        worst = {
            *order[: self._replaced],
            *(k for k in order if math.isnan(scores[k])),
        }
        # Who has no state to copy is among the worst.
        best = [k for k in order[-self._replaced :] if k not in worst]
        best = best or order[-1:]
        following, rows = list(trained), []
        for k in range(self._size):
            source = None
            if k in worst and k not in best:
                generator = np.random.default_rng([self._seed, k, number + 1])
                source = int(generator.choice(best))
                following[k] = {
                    **trained[source],
                    "hyperparameters": self._near(
                        trained[source]["hyperparameters"], generator
                    ),
                }
            rows.append(
                {
                    "round": number,
                    "member": k,
                    "rounds_trained": trained[k]["rounds"],
                    "score": scores[k],
                    "hyperparameters": trained[k]["hyperparameters"],
                    "copied_from": source,
                }
            )
        return following, rows

    def _near(self, values, generator):
        return {
            name: (
                value.sample(generator)
                if generator.random() < self._resample
                else value.perturb(values[name], generator)
            )
            for name, value in self._hyperparameters.items()
        }


class _Store:
    """A population in a folder: written whole, or not at all."""

    def __init__(self, directory):
        self._folder = pathlib.Path(directory)
        self._index = self._folder / "population.json"

    def exists(self):
        return self._index.exists()

    def read(self, settings):
        found = json.loads(self._index.read_text())
        if found["settings"] != settings:
            raise ValueError(
                f"`directory`={str(self._folder)!r} holds another population: "
                f"{found['settings']}. Received: {settings}. Choose another "
                "directory, or give the same arguments."
            )
        for member in found["population"]:
            with np.load(self._folder / member["state"]) as arrays:
                member["state"] = [
                    arrays[f"arr_{n}"] for n in range(len(arrays))
                ]
        return found["population"], found["history"]

    def write(self, settings, population, history, number):
        self._folder.mkdir(parents=True, exist_ok=True)
        old = set(self._folder.glob("round-*.npz"))
        named = []
        for k, member in enumerate(population):
            name = f"round-{number}-member-{k}.npz"
            np.savez(self._folder / name, *member["state"])
            named.append({**member, "state": name})
        index = {
            "settings": settings,
            "population": named,
            "history": history,
        }
        temporary = self._folder / "population.json.new"
        temporary.write_text(json.dumps(index, indent=1) + "\n")
        os.replace(temporary, self._index)
        for path in old - {self._folder / m["state"] for m in named}:
            path.unlink()


def _rank(score):
    return -math.inf if math.isnan(score) else score
