"""Gates against their equations, with hand-computed and random values."""

import numpy as np
import pytest

from keras_sparse_rl import layers
from keras_sparse_rl.layers import sparse_kernels
from tests.layers import gtrxl_reference as reference
from tests.layers.gtrxl_weights import gate_weights
from tests.layers.gtrxl_weights import randomize

GATES = {
    layers.InputGate: reference.input_gate,
    layers.OutputGate: reference.output_gate,
    layers.HighwayGate: reference.highway_gate,
    layers.SigmoidTanhGate: reference.sigmoid_tanh_gate,
    layers.GRUGate: reference.gru_gate,
}
each_precision = pytest.mark.parametrize(
    "dtype, error", [("float64", 1e-10), ("float32", 1e-5)]
)
each_gate = pytest.mark.parametrize(
    "gate_class", GATES, ids=lambda c: c.__name__
)


def inputs(dtype="float64"):
    generator = np.random.default_rng(1)
    return generator.normal(size=(2, 3, 5, 4)).astype(dtype)


@each_gate
@each_precision
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_gate_is_its_equation(gate_class, dtype, error, alpha):
    gate = gate_class(dtype=dtype, alpha=alpha)
    x, y = inputs(dtype)
    gate(x, y)
    randomize(gate)
    expected = GATES[gate_class](
        x.astype("float64"), y.astype("float64"), *gate_weights(gate)
    )
    np.testing.assert_allclose(gate(x, y), expected, rtol=0, atol=error)


@pytest.mark.parametrize(
    "gate_class, expected",
    # With all matrices 0 a gate depends on its bias alone; x = 3, y = 0.5,
    # s(-1) = 0.268941, s(1) = 0.731059, s(-2) = 0.119203.
    [
        (layers.InputGate, 0.5 * 3 + 0.5),
        (layers.OutputGate, 3 + 0.268941 * 0.5),
        (layers.HighwayGate, 0.731059 * 3 + 0.268941 * 0.5),
        (layers.SigmoidTanhGate, 3.0),
        (layers.GRUGate, (1 - 0.119203) * 3),
    ],
)
def test_starting_biases(gate_class, expected):
    gate = gate_class()
    x, y = np.full((2, 4), 3.0), np.full((2, 4), 0.5)
    gate(x, y)
    for variable in gate.trainable_variables:
        if len(variable.shape) == 2:
            variable.assign(np.zeros(variable.shape))
    np.testing.assert_allclose(gate(x, y), np.full((2, 4), expected), 1e-5)


@each_gate
def test_bias_is_trained_and_there_is_none_for_the_input_gate(gate_class):
    gate = gate_class()
    gate(*inputs("float32"))
    biases = [v for v in gate.trainable_variables if v.name == "bias"]
    assert len(biases) == (gate_class is not layers.InputGate)
    expected = {layers.GRUGate: 2.0}.get(gate_class, 1.0)
    for bias in biases:
        np.testing.assert_array_equal(bias, np.full(4, expected))
    # Five gates, with 1, 1, 1, 2 and 6 square matrices (paper, table 2).
    matrices = {layers.SigmoidTanhGate: 2, layers.GRUGate: 6}
    count = sum(int(np.prod(v.shape)) for v in gate.trainable_variables)
    assert count == matrices.get(gate_class, 1) * 16 + 4 * len(biases)


@each_gate
def test_alpha_makes_every_matrix_sparse_ready(gate_class):
    gate = gate_class(alpha=2.0)
    gate(*inputs("float32"))
    matrices = [v for v in gate.trainable_variables if len(v.shape) == 2]
    assert [k.theta for k in sparse_kernels(gate)] == matrices
    assert not sparse_kernels(gate_class())


@each_gate
def test_config_round_trip(gate_class):
    arguments = {"alpha": 2.0, "name": "some_name"}
    if gate_class is not layers.InputGate:
        arguments["gate_bias"] = 0.5
    gate = gate_class(**arguments)
    copy = gate_class.from_config(gate.get_config())
    assert copy.get_config() == gate.get_config()
    assert arguments.items() <= gate.get_config().items()


@each_gate
def test_bad_arguments(gate_class):
    with pytest.raises(ValueError, match="alpha=0.5"):
        gate_class(alpha=0.5)
    if gate_class is not layers.InputGate:
        for bias in (float("inf"), None):
            with pytest.raises(ValueError, match=f"gate_bias={bias}"):
                gate_class(gate_bias=bias)
    with pytest.raises(ValueError, match=r"one shape.*\(2, 4\).*\(2, 3\)"):
        gate_class()(np.zeros((2, 4)), np.zeros((2, 3)))
