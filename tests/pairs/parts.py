"""An agent of any of the ten papers, and what shows that each is at work."""

import collections

import keras
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import layers
from keras_sparse_rl.callbacks import BayesRegret
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.gradients import GradientGate
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.optimizers.powerprop_update import PowerpropUpdate

ARMS, BITS, UNITS = 3, 3, 6
DENSITY = 0.4
SIMPLE = agents.SimplePolicy("simple", actions=[0, 1])
# The layers by paper, and all variables as they were before training.
Player = collections.namedtuple("Player", ["agent", "layers", "start"])


class FirstArm(agents.LossTerm):
    """An auxiliary loss that nobody needs: always the first arm."""

    def loss(self, segment):
        logits = segment.outputs["policy"][:, :-1]
        return -tf.nn.log_softmax(logits)[..., 0]


def bandit():
    return environments.BarcodeBandit(
        num_arms=ARMS,
        num_contexts=2,
        exposures=3,
        pulls=3,
        barcode_length=BITS,
        batch_size=2,
    )


def exponent(papers):
    """`alpha` of all layers: sparse ones for Top-KAST, None for plain ones."""
    if "powerprop" in papers:
        return 2.0
    return 1.0 if "top_kast" in papers else None


def network(papers, world):
    """A model of the network contract by hand, and the papers' layers."""
    alpha = exponent(papers)
    observation = tf.nest.map_structure(
        lambda spec: keras.Input((None, *spec.shape), dtype=spec.dtype.name),
        tensor_spec.from_spec(world.observation_spec()),
    )
    is_first = keras.Input((None,), dtype="bool", name="is_first")
    before, after, found = {}, {}, {}

    def remembered(paper, layer, x, **arguments):
        layer.build(keras.tree.map_structure(lambda x: x.shape, x))
        before[paper] = keras.tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name),
            layer.initial_state(1),
        )
        found[paper] = layer
        outputs, after[paper] = layer(
            x, state=before[paper], is_first=is_first, **arguments
        )
        return outputs

    seen = observation["observation"]
    torso = keras.layers.Dense(UNITS, "relu")
    if alpha is not None:
        torso = layers.PowerpropDense(UNITS, "relu", alpha=alpha)
    features = torso(
        keras.layers.Concatenate()(
            [
                seen["context"],
                observation["previous_action"],
                keras.layers.Reshape((-1, 1))(observation["previous_reward"]),
            ]
        )
    )
    x, slow = features, None
    if "episodic_recall" in papers:
        memory = layers.EpisodicMemory(4, BITS, UNITS)
        x = remembered(
            "episodic_recall",
            layers.EpisodicLSTM(UNITS, memory, return_state=True, alpha=alpha),
            features,
            context=seen["context"],
            is_task_start=seen["is_task_start"],
        )
    if "gtrxl" in papers:
        slow = layers.GTrXL(1, 2, 3, 8, 4, return_state=True, alpha=alpha)
    cores = {}
    if "ppr" in papers:
        core = layers.PPRCore(
            UNITS,
            slow_period=2,
            slow_cell=slow,
            inputs={"perception": ("features",)},
            return_state=True,
            alpha=alpha,
        )
        cores = remembered(
            "ppr", core, {"features": features, "x": x}, return_cores=True
        )
        x = cores.pop("reaction")
        found["gtrxl"] = slow
    elif slow is not None:
        x = remembered("gtrxl", slow, x)
    dense = keras.layers.Dense
    outputs = {"policy": dense(ARMS)(x), "value": dense(1)(x)}
    outputs.update({name: dense(ARMS)(core) for name, core in cores.items()})
    if "meta_learning" in papers:
        outputs["reward"] = dense(ARMS)(x)
    if "mix_and_match" in papers:
        outputs["simple"] = dense(len(SIMPLE.actions))(features)
        if "default_policies" in papers:
            outputs["default"] = dense(ARMS, trainable=False)(seen["context"])
    return keras.Model(
        {"observation": observation, "is_first": is_first, "state": before},
        {"outputs": outputs, "state": after},
    ), found


def new_player(papers, world, seed):
    """A `Player` in whose agent these papers are switched on."""
    keras.utils.set_random_seed(seed)
    model, found = network(papers, world)
    specs = world.time_step_spec(), world.action_spec()
    optimizer = keras.optimizers.Adam(1e-2)
    if exponent(papers) is not None:
        optimizer = Powerprop(optimizer)
    terms, gate = [], None
    if "gradient_cosine" in papers:
        # One cosine a layer: some let the loss in, whatever the seed.
        gate = GradientGate(scope="layer", smoothing=0.5)
        if not {"ppr", "distillation"} & set(papers):
            terms.append(FirstArm(0.1, gate=gate))
    if "ppr" in papers:
        # One gated term is enough: each costs a backward pass to compile.
        gated = None if "distillation" in papers else gate
        terms.append(agents.PPRTerm(specs[1], 0.5, gate=gated))
    if "meta_learning" in papers:
        terms.append(agents.RewardPredictionTerm(specs[1]))
    if "distillation" in papers:
        teacher = agents.Teacher(
            lambda seen: 2.0 * seen["context"], *specs, keys="observation"
        )
        terms.append(
            agents.DistillationTerm(teacher, coefficient=0.5, gate=gate)
        )
    arguments = specs[0], specs[1], model, optimizer
    if "mix_and_match" in papers:
        if "default_policies" in papers:
            terms.append(agents.KLToDefaultTerm(specs[1], 0.1))
        agent = agents.MixAndMatchAgent(
            *arguments,
            [SIMPLE],
            agents.MixtureSchedule(end=20),
            loss_terms=terms,
        )
    elif "default_policies" in papers:
        context = specs[0].observation["observation"]["context"]
        agent = agents.KLRegularizedAgent(
            *arguments,
            agents.default_policy_model(
                {"observation": {"context": context}}, specs[1]
            ),
            keras.optimizers.Adam(1e-2),
            alpha=0.1,
            target_period=3,
            loss_terms=terms,
        )
    else:
        agent = agents.ActorCriticAgent(*arguments, loss_terms=terms)
    start = {id(v): v.numpy() for v in agent.model.variables}
    return Player(agent, found, start)


def new_callbacks(papers):
    callbacks = []
    if "top_kast" in papers:
        callbacks.append(TopKAST(DENSITY, refresh_every=2))
    if "meta_learning" in papers:
        callbacks.append(BayesRegret(bandit()))
    return callbacks


def moved(player, layer):
    """Whether each of a layer's trainable variables has learned."""
    return {
        v.path: bool(np.any(player.start[id(v)] != v.numpy()))
        for v in layer.trainable_variables
    }


def works_powerprop(player, history):
    assert isinstance(player.agent.model.optimizer, PowerpropUpdate)
    kernels = layers.sparse_kernels(player.agent.model)
    assert kernels and all(kernel.alpha == 2.0 for kernel in kernels)
    for kernel in kernels:
        theta = kernel.theta.numpy()
        assert np.isfinite(theta).all()
        used = theta * abs(theta) * kernel.forward_mask()
        np.testing.assert_allclose(kernel.value(), used, rtol=1e-6)


def works_top_kast(player, history):
    for kernel in layers.sparse_kernels(player.agent.model):
        used, trained = kernel.forward_mask(), kernel.backward_mask()
        assert used.sum() == max(1, round(DENSITY * used.size))
        assert used.sum() < trained.sum() < trained.size
    assert abs(history["forward_density"][-1] - DENSITY) < 0.02
    assert np.any(history["mask_churn"])


def works_gtrxl(player, history):
    learned = moved(player, player.layers["gtrxl"])
    assert len(learned) > 10 and all(learned.values()), learned


def works_ppr(player, history):
    assert_figures(history, "ppr")
    learned = moved(player, player.layers["ppr"])
    # The prediction core has no inputs, so its kernel of inputs rests.
    assert sum(not x for x in learned.values()) <= 1, learned


def works_meta_learning(player, history):
    assert_figures(history, "reward_prediction", "regret")


def works_default_policies(player, history):
    names = "kl", "reward_kl"
    if isinstance(player.agent, agents.KLRegularizedAgent):
        names += ("default",)
        assert all(moved(player, player.agent.default_model).values())
    assert_figures(history, *names)


def works_distillation(player, history):
    assert_figures(history, "distillation", "reward_distillation")


def works_gradient_cosine(player, history):
    gated = [term.name for term in player.agent.loss_terms if term.gate]
    assert gated
    for name in gated:
        assert_figures(history, f"cosine_{name}")
        weight = np.array(history[f"weight_{name}"])
        assert ((weight >= 0) & (weight <= 1)).all()
    assert any(np.any(history[f"weight_{name}"]) for name in gated)
    (gate,) = player.agent.gates
    assert float(gate.variables[1]) > 0


def works_mix_and_match(player, history):
    assert_figures(history, "matching")
    assert history["alpha"][0] < history["alpha"][1] < 1


def works_episodic_recall(player, history):
    layer = player.layers["episodic_recall"]
    assert all(moved(player, layer).values())
    (bias,) = (v for v in layer.weights if v.shape == (5 * UNITS,))
    # The reinstatement gate has a gradient only where something is recalled.
    assert np.all(bias.numpy()[-UNITS:])


def assert_figures(history, *names):
    """Each is finite in every epoch, and in none 0."""
    for name in names:
        values = np.array(history[name])
        assert np.isfinite(values).all() and values.all(), (name, values)
