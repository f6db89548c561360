"""Any two of the ten papers train together, stop, and go on bit for bit."""

import keras
import numpy as np
import pytest
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import layers
from keras_sparse_rl import meta
from keras_sparse_rl.callbacks import BayesRegret
from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.optimizers import Powerprop
from tests.agents import tasks
from tests.agents.test_mix_and_match_agent import new_agent as new_mixture
from tests.pairs import parts
from tests.pairs import table
from tests.same_state import assert_same_state

LOOPS = {
    loop: [
        pytest.param(name, marks=[pytest.mark.slow] * run.slow)
        for name, run in table.RUNS.items()
        if run.loop == loop
    ]
    for loop in ("fit", "agents.train")
}
NAMES = ["+".join(pair) for pair in table.PAIRS]


@pytest.mark.parametrize("pair", table.PAIRS, ids=NAMES)
def test_a_run_covers_the_pair_or_a_reason_says_why_not(pair):
    runs = [name for name in table.covering(pair) if not table.RUNS[name].slow]
    assert bool(runs) != bool(table.NOT_APPLICABLE.get(pair))


def test_the_page_is_up_to_date():
    """Otherwise: python -m tests.pairs.table"""
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
    assert len(table.PAIRS) == 45
    assert sum(map(len, LOOPS.values())) == len(table.RUNS)


def train(papers, directory, seed):
    """Two epochs, or what is left of them; all that training can change."""
    # Names count from 1, as in a new process: among others' names one sum of
    # this graph came out one bit different.
    keras.backend.clear_session()
    world = environments.WithPreviousActionAndReward(parts.bandit())
    player = parts.new_player(papers, world, seed)
    agent = player.agent
    history = agents.train(
        agent,
        world,
        epochs=2,
        steps_per_epoch=4,
        segment_length=7,
        callbacks=parts.new_callbacks(papers),
        checkpoint_directory=directory,
        verbose=0,
    ).history
    variables = [*agent.model.variables, *agent.other_variables]
    variables += [v for each, _ in agent.optimizers for v in each.variables]
    variables += [v for gate in agent.gates for v in gate.variables]
    return player, history, [v.numpy() for v in variables]


def check_agent(papers, directory):
    player, history, whole = train(papers, directory, 0)
    for paper in papers:
        getattr(parts, f"works_{paper}")(player, history)
    tasks.go_back(directory, 1)
    _, later, resumed = train(papers, directory, 5)
    assert len(later["loss"]) == 1
    for a, b in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in later.items():
        np.testing.assert_array_equal(values[-1], history[name][-1], name)


@pytest.mark.parametrize("name", LOOPS["agents.train"])
def test_agents(name, tmp_path):
    check_agent(table.RUNS[name].papers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pair", table.PAIRS, ids=NAMES)
def test_each_pair_alone(pair, tmp_path):
    check_agent(pair, tmp_path)


@pytest.mark.parametrize("kind", ["default", "teacher"])
def test_a_mixture_of_continuous_policies_stands_alone(kind):
    spec = tasks.CONTINUOUS
    term = agents.KLToDefaultTerm(spec, output="simple")
    if kind == "teacher":
        teacher = agents.Teacher(
            lambda seen: keras.ops.tile(seen[:, :1], (1, 4)),
            ts.time_step_spec(tasks.OBSERVATION),
            spec,
        )
        term = agents.DistillationTerm(teacher)
    agent = new_mixture(
        [agents.SimplePolicy("simple")], action_spec=spec, loss_terms=[term]
    )
    with pytest.raises(ValueError, match="istribution|tanh"):
        agent.train(tasks.experience(agent))


def small_outputs(model, x, y, y_pred):
    return keras.ops.mean(y_pred**2)


@pytest.mark.parametrize("name", LOOPS["fit"])
def test_fit(name, tmp_path):
    """Powerprop, Top-KAST, a GTrXL, a gate and the regret against Bayes."""
    assert table.RUNS[name].papers == [
        "powerprop",
        "top_kast",
        "gtrxl",
        "meta_learning",
        "gradient_cosine",
    ]
    task = meta.tasks.Bernoulli(length=6, batch_size=8, steps_per_epoch=4)

    def fit(model, first, last):
        task.epoch = first
        return model.fit(
            task,
            initial_epoch=first,
            epochs=last,
            shuffle=False,
            callbacks=[
                TopKAST(parts.DENSITY, refresh_every=2),
                GradientCosine("output", [small_outputs]),
                BayesRegret(task, num_sequences=8),
                keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            ],
            verbose=0,
        ).history

    def new_model():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((None, 2)),
                layers.PowerpropDense(6, alpha=2.0),
                layers.GTrXL(1, 2, 3, 8, 4, alpha=2.0),
                keras.layers.Dense(task.num_outputs),
            ]
        )
        model.compile(Powerprop(keras.optimizers.Adam(1e-2)), task.loss)
        return model

    whole, start = new_model(), new_model()
    history = fit(whole, 0, 2)
    parts.assert_figures(
        history, "bayes_regret", "cosine_small_outputs", "penalty"
    )
    assert all(0 <= x <= 1 for x in history["weight_small_outputs"])
    assert any(history["weight_small_outputs"])
    assert history["forward_density"][-1] == pytest.approx(0.4, abs=0.02)
    assert any(history["mask_churn"])
    for a, b in zip(
        whole.layers[1].trainable_variables, start.layers[1].trainable_variables
    ):
        assert np.any(a.numpy() != b.numpy()), a.path

    loaded = keras.models.load_model(tmp_path / "1.keras")
    later = fit(loaded, 1, 2)
    assert_same_state(whole, loaded)
    for key, values in later.items():
        assert values[-1] == history[key][-1], key
