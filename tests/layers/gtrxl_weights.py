"""Weights of the layers under test, as the reference wants them."""

import numpy as np


def kernel(layer):
    return np.asarray(layer.kernel, "float64")


def randomize(layer, seed=0, scale=0.4):
    """Random values for all weights, so that no default hides an error."""
    generator = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        noise = scale * generator.normal(size=variable.shape)
        variable.assign(np.asarray(variable) + noise)


def gate_weights(gate):
    """The arguments of the reference's gate after `x` and `y`."""
    if gate is None:
        return ()
    name = type(gate).__name__
    if name == "GRUGate":
        matrices = [
            *np.split(kernel(gate._submodule), 3, axis=1),
            *np.split(kernel(gate._stream), 2, axis=1),
            kernel(gate._candidate),
        ]
    elif name == "SigmoidTanhGate":
        matrices = np.split(kernel(gate._projection), 2, axis=1)
    else:
        matrices = [kernel(gate._projection)]
    bias = [] if gate.bias is None else [np.asarray(gate.bias, "float64")]
    return (*matrices, *bias)


def attention_weights(attention):
    kernels = [
        kernel(getattr(attention, f"_{name}"))
        for name in ("query", "key", "value", "distance", "output")
    ]
    rest = (attention._output.bias, attention.u, attention.v)
    return (*kernels, *(np.asarray(v, "float64") for v in rest))


def block_weights(block):
    norms = []
    for norm in (block._attention_norm, block._feedforward_norm):
        has_own = norm.gamma is not None
        norms.append((norm.gamma, norm.beta) if has_own else ())
    norms = [[np.asarray(v, "float64") for v in norm] for norm in norms]
    widen, narrow = block._widen, block._narrow
    return {
        "norm1": norms[0],
        "norm2": norms[1],
        "attention": attention_weights(block._attention),
        "feedforward": (
            kernel(widen),
            np.asarray(widen.bias, "float64"),
            kernel(narrow),
            np.asarray(narrow.bias, "float64"),
        ),
        "gate1": gate_weights(block._attention_gate),
        "gate2": gate_weights(block._feedforward_gate),
    }
