import math

import numpy as np


class PopulationSearch:
    """Who is replaced by whom, and what is tried next.

    Args:
        hyperparameters: dict of `Hyperparameter` by name.
        size: int, members.
        quantile: float in (0, 0.5], see `train_population`.
        resample: float in [0, 1], probability of drawing anew.
        seed: int.
    """

    def __init__(self, hyperparameters, size, quantile, resample, seed):
        self._hyperparameters = hyperparameters
        self._size = size
        self._replaced = max(1, int(quantile * size))
        self._resample = resample
        self._seed = seed

    def settings(self):
        """All that the search depends on, as JSON can hold it."""
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
        """The first population, a list of dicts."""
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
        order = sorted(range(self._size), key=lambda k: (rank(scores[k]), k))
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


def rank(score):
    """The score to sort by: that of a member that diverged is the lowest."""
    return -math.inf if math.isnan(score) else score
