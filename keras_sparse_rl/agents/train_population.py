import collections

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.agents.hyperparameter import Hyperparameter
from keras_sparse_rl.agents.population_search import PopulationSearch
from keras_sparse_rl.agents.population_search import rank
from keras_sparse_rl.agents.population_store import PopulationStore
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

    With Ray, members are played by its actors, not by Ray Tune: Tune's
    population-based training decides when a trial happens to report, so that
    no two runs agree, nor do the engines; it can copy from trials without a
    checkpoint and count their iterations anew (ray issues 11936 and 27170).

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
    search = PopulationSearch(
        hyperparameters, size, quantile, resample_probability, seed
    )
    store = None if directory is None else PopulationStore(directory)
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
    best = max(last, key=lambda row: (rank(row["score"]), row["member"]))
    return PopulationResult(
        best["score"],
        best["hyperparameters"],
        population[best["member"]]["state"],
        history,
    )
