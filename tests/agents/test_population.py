"""Populations: who is replaced, bounds, resuming, and both engines."""

import json
import math
import os
import sys

import keras
import numpy as np
import pytest

from keras_sparse_rl import agents
from keras_sparse_rl.agents import Hyperparameter
from keras_sparse_rl.agents import train_population
from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.layers import sparse_kernels
from tests.agents import tasks

RATES = {
    "rate": Hyperparameter(1e-3, 1.0, log=True),
    "side": Hyperparameter(-1.0, 1.0),
}


class Climber(agents.PopulationMember):
    """Its score is how far all its rounds brought it."""

    made = 0

    def __init__(self):
        type(self).made += 1

    def reset(self, seed):
        self.height = np.array([seed * 1e-6, 0.0])

    def train(self, hyperparameters):
        gain = hyperparameters["rate"] * (1 - abs(hyperparameters["side"]))
        self.height += [gain, 1]
        return float(self.height[0])

    def get_state(self):
        return [self.height]

    def set_state(self, state):
        self.height = state[0].copy()


class Diverging(Climber):
    """Large rates diverge, one in a way of its own."""

    def train(self, hyperparameters):
        score = super().train(hyperparameters)
        if hyperparameters["rate"] > 0.5:
            raise FloatingPointError("diverged")
        return math.nan if hyperparameters["rate"] > 0.3 else score


class Killed(Climber):
    """Its first process dies in mid-run."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def train(self, hyperparameters):
        if not os.path.exists(self._path):
            open(self._path, "w").close()
            os._exit(1)
        return super().train(hyperparameters)


def rows_of(result, number):
    return [row for row in result.history if row["round"] == number]


def test_the_worst_go_on_from_the_best_within_bounds():
    before = Climber.made
    result = train_population(Climber, RATES, size=8, rounds=30, seed=3)
    assert Climber.made == before + 1
    assert len(result.history) == 8 * 30
    for number in range(29):
        rows, following = rows_of(result, number), rows_of(result, number + 1)
        order = sorted(rows, key=lambda row: row["score"])
        assert {row["member"] for row in order[:2]} == {
            row["member"] for row in rows if row["copied_from"] is not None
        }
        best = {row["member"] for row in order[-2:]}
        for row, later in zip(rows, following):
            # Nobody starts again: every member has trained every round.
            assert later["rounds_trained"] == number + 2
            source = row["copied_from"]
            parent = row if source is None else rows[source]
            values = later["hyperparameters"]
            if source is None:
                assert values == row["hyperparameters"]
            else:
                assert source in best
                assert values != parent["hyperparameters"]
            gain = values["rate"] * (1 - abs(values["side"]))
            assert later["score"] == pytest.approx(parent["score"] + gain)
            for name, bounds in RATES.items():
                assert bounds.low <= values[name] <= bounds.high
    # It finds the top of the hill, which no member started on.
    found = result.hyperparameters
    assert found["rate"] > 0.8 and abs(found["side"]) < 0.2
    assert result.state[0][0] == result.score
    assert result.state[0][1] == 30


def test_equal_seeds_give_equal_results():
    first, again, other = (
        train_population(Climber, RATES, size=4, rounds=5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.history == again.history
    assert first.history != other.history


def test_resumes_exactly(tmp_path):
    whole = train_population(Climber, RATES, size=4, rounds=6)
    train_population(Climber, RATES, size=4, rounds=3, directory=tmp_path)
    before = Climber.made
    resumed = train_population(
        Climber, RATES, size=4, rounds=6, directory=tmp_path
    )
    assert Climber.made == before + 1
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.state[0], whole.state[0])
    # What is done is only read, and old states are gone.
    again = train_population(
        Climber, RATES, size=4, rounds=6, directory=tmp_path
    )
    assert Climber.made == before + 1
    assert again.history == whole.history
    assert len(list(tmp_path.glob("*.npz"))) == 4
    with pytest.raises(ValueError, match="holds another population"):
        train_population(Climber, RATES, size=5, rounds=6, directory=tmp_path)


def test_an_interrupted_round_is_done_again(tmp_path):
    class Interrupted(Climber):
        calls = 0

        def train(self, hyperparameters):
            Interrupted.calls += 1
            if Interrupted.calls == 10:
                raise KeyboardInterrupt
            return super().train(hyperparameters)

    arguments = {"size": 4, "rounds": 5}
    with pytest.raises(KeyboardInterrupt):
        train_population(Interrupted, RATES, directory=tmp_path, **arguments)
    saved = json.loads((tmp_path / "population.json").read_text())
    assert len(saved["history"]) == 8
    resumed = train_population(Climber, RATES, directory=tmp_path, **arguments)
    assert (
        resumed.history == train_population(Climber, RATES, **arguments).history
    )


def test_a_member_that_diverged_is_replaced_and_never_copied(tmp_path):
    result = train_population(
        Diverging, RATES, size=8, rounds=12, seed=5, directory=tmp_path
    )
    failed = 0
    for row in result.history:
        rows = rows_of(result, row["round"])
        if math.isnan(row["score"]):
            failed += 1
            assert row["copied_from"] is not None
        if row["copied_from"] is not None:
            assert math.isfinite(rows[row["copied_from"]]["score"])
    assert failed > 0
    assert math.isfinite(result.score)
    everyone = {"rate": Hyperparameter(0.6, 1.0), "side": RATES["side"]}
    with pytest.raises(RuntimeError, match="All 4 members diverged"):
        train_population(Diverging, everyone, size=4)


def agent_member():
    keras.utils.set_random_seed(0)
    maze = tasks.maze()
    policies = [agents.SimplePolicy("turns", actions=[1, 2])]
    agent = agents.MixAndMatchAgent(
        maze.time_step_spec(),
        maze.action_spec(),
        agents.mix_and_match_model(
            maze.observation_spec(), maze.action_spec(), policies
        ),
        keras.optimizers.Adam(1e-3),
        policies,
        [1.0, 0.0],
    )

    def apply(agent, values):
        agent.set_alphas([1 - values["alpha"], values["alpha"]])
        agent.model.optimizer.learning_rate = values["rate"]

    return agents.AgentMember(
        agent,
        maze,
        tasks.maze(seed=9),
        apply,
        steps=2,
        segment_length=4,
        evaluation_episodes=4,
    )


ALPHA = {
    "alpha": Hyperparameter(0.0, 1.0),
    "rate": Hyperparameter(1e-3, 1e-1, log=True),
}


def test_agents_as_members(tmp_path):
    """States hold all: members that take turns do not see each other."""
    member = agent_member()
    first, second = {"alpha": 0.2, "rate": 1e-2}, {"alpha": 0.9, "rate": 3e-2}
    member.reset(1)
    scores = [member.train(first) for _ in range(2)]
    alone = member.get_state()
    member.reset(1)
    assert member.train(first) == scores[0]
    kept = member.get_state()
    member.reset(2)
    member.train(second)
    member.set_state(kept)
    assert member.train(first) == scores[1]
    for a, b in zip(member.get_state(), alone, strict=True):
        np.testing.assert_array_equal(a, b)
    # The same through the population, stopped and resumed.
    arguments = {"size": 3, "seed": 1}
    whole = train_population(lambda: member, ALPHA, rounds=3, **arguments)
    for rounds in (1, 3):
        resumed = train_population(
            lambda: member,
            ALPHA,
            rounds=rounds,
            directory=tmp_path,
            **arguments,
        )
    assert resumed.history == whole.history
    for a, b in zip(resumed.state, whole.state, strict=True):
        np.testing.assert_array_equal(a, b)
    member.set_state(whole.state)
    assert int(member._agent.train_step_counter) == 6


def default_member():
    """Two optimizers, a target copy, and weights that rest on the host."""
    keras.utils.set_random_seed(0)
    maze = tasks.maze()
    seen = maze.observation_spec(), maze.action_spec()
    agent = agents.KLRegularizedAgent(
        maze.time_step_spec(),
        maze.action_spec(),
        agents.actor_critic_model(*seen, torso=SparseDense(8, density=0.3)),
        keras.optimizers.Adam(1e-2),
        agents.default_policy_model(*seen),
        keras.optimizers.Adam(1e-1),
        target_period=3,
    )
    member = agents.AgentMember(
        agent,
        maze,
        tasks.maze(seed=9),
        lambda agent, values: None,
        steps=2,
        segment_length=4,
        evaluation_episodes=4,
    )
    return member, agent


def test_members_hold_second_optimizers_targets_and_resting_weights():
    member, agent = default_member()
    member.reset(1)
    for a, b in zip(agent.other_variables, agent.default_model.variables):
        np.testing.assert_array_equal(a, b)
    for _ in range(2):
        member.train({})
    alone = member.get_state()
    member.reset(1)
    member.train({})
    kept = member.get_state()
    member.reset(2)
    kernel = sparse_kernels(agent.model)[0]
    kernel.assign_resting(np.full(kernel.shape, 7.0))
    member.train({})
    member.set_state(kept)
    member.train({})
    for a, b in zip(member.get_state(), alone, strict=True):
        np.testing.assert_array_equal(a, b)
    slots = agent.optimizers[1][0].variables
    assert int(slots[0]) == 4 and np.abs(slots[2]).max() > 0


def test_a_frozen_default_survives_a_reset():
    maze = tasks.maze()
    seen = maze.observation_spec(), maze.action_spec()
    agent = agents.KLRegularizedAgent(
        maze.time_step_spec(),
        maze.action_spec(),
        agents.actor_critic_model(*seen),
        keras.optimizers.Adam(1e-2),
        agents.default_policy_model(*seen),
        freeze_default=True,
    )
    member = agents.AgentMember(agent, maze, tasks.maze(), print)
    frozen, whole = agent.default_model.get_weights(), agent.model.get_weights()
    member.reset(3)
    for a, b in zip(agent.default_model.get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(agent.model.get_weights(), whole))


def test_agents_that_diverge_say_so():
    member = agent_member()
    member.reset(0)
    with pytest.raises(FloatingPointError):
        for _ in range(5):
            member.train({"alpha": 0.5, "rate": float("nan")})


@pytest.fixture
def ray():
    module = pytest.importorskip(
        "ray", reason="Ray, the extra [ray], is not installed"
    )
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()


def test_ray_gives_the_same_and_survives_a_lost_process(ray, tmp_path):
    expected = train_population(Climber, RATES, size=4, rounds=4)
    found = train_population(
        Climber, RATES, size=4, rounds=2, engine="ray", directory=tmp_path / "a"
    )
    found = train_population(
        Climber, RATES, size=4, rounds=4, engine="ray", directory=tmp_path / "a"
    )
    assert found.history == expected.history
    path = str(tmp_path / "died")
    found = train_population(
        lambda: Killed(path), RATES, size=4, rounds=4, engine="ray"
    )
    assert os.path.exists(path)
    assert found.history == expected.history


def test_ray_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"keras_sparse_rl\[ray\]"):
        train_population(Climber, RATES, engine="ray")


def test_hyperparameters():
    generator = np.random.default_rng(0)
    rate = RATES["rate"]
    drawn = [rate.sample(generator) for _ in range(1000)]
    assert 1e-3 <= min(drawn) and max(drawn) <= 1
    assert np.median(drawn) == pytest.approx(10**-1.5, rel=0.3)
    moved = {round(rate.perturb(0.1, generator), 6) for _ in range(50)}
    assert moved == {0.08, 0.12}
    moved = {round(RATES["side"].perturb(0.9, generator), 6) for _ in range(50)}
    assert moved == {0.5, 1.0}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"size": 1}, "population of one"),
        ({"size": 2.5}, "`size`"),
        ({"rounds": 0}, "`rounds`"),
        ({"quantile": 0.0}, "`quantile`"),
        ({"quantile": 0.6}, "`quantile`"),
        ({"resample_probability": 2.0}, "`resample_probability`"),
        ({"engine": "dask"}, "`engine`"),
        ({"hyperparameters": {}}, "`hyperparameters`"),
        ({"hyperparameters": {"rate": 0.1}}, "`hyperparameters`"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        train_population(Climber, **{"hyperparameters": RATES, **arguments})


def test_bad_members_and_hyperparameters():
    for bad in ((1.0, 0.5), (0.0, 1.0, True), (0.0, 1.0, 1)):
        with pytest.raises(ValueError):
            Hyperparameter(*bad)
    maze = tasks.maze()
    agent = tasks.maze_agent(maze)
    with pytest.raises(ValueError, match="another object"):
        agents.AgentMember(agent, maze, maze, print)
    with pytest.raises(ValueError, match="InGraphEnvironment"):
        agents.AgentMember(agent, maze, None, print)
    with pytest.raises(ValueError, match="`agent`"):
        agents.AgentMember(None, maze, maze, print)
