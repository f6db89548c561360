"""DI-engine's weights give DI-engine's outputs."""

import pathlib

import keras
import numpy as np
import pytest

from keras_sparse_rl.layers import DIEngineGTrXL
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import sparsify

MEMORY_LENGTH, SEGMENTS = 6, ((0, 4), (4, 5), (5, 10))


def saved(name):
    path = pathlib.Path(__file__).parent / "di_engine_gtrxl.npz"
    arrays = dict(np.load(path))
    prefix = f"{name}/weights/"
    weights = {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }
    return weights, arrays[f"{name}/inputs"], arrays[f"{name}/outputs"]


@pytest.mark.parametrize("name", ["gated", "plain"])
def test_outputs_are_those_of_di_engine(name, tmp_path):
    weights, inputs, expected = saved(name)
    layer = DIEngineGTrXL.from_state_dict(
        weights, MEMORY_LENGTH, return_state=True
    )
    state, outputs = None, []
    for start, end in SEGMENTS:
        output, state = layer(inputs[:, start:end], state=state)
        outputs.append(output)
    found = np.concatenate(outputs, axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # It is a layer like others: it saves and acts.
    x = keras.Input(inputs.shape[1:])
    model = keras.Model(x, layer(x)[0])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs), layer(inputs)[0], atol=1e-6)
    single, _ = layer(inputs[:, :1])
    for state in (None, layer.initial_state(3)):
        output, _ = layer.step(inputs[:, 0], state)
        np.testing.assert_allclose(output, single[:, 0], atol=1e-5)
    # Sparse and back it computes the same.
    model = keras.Sequential([x, DIEngineGTrXL.from_state_dict(weights, 6)])
    outputs = model(inputs)
    sparsify(model, 2.0, {model.layers[0]: 1.0}, verbose=0)
    np.testing.assert_allclose(model(inputs), outputs, atol=1e-4)
    densify(model)
    np.testing.assert_allclose(model(inputs), outputs, atol=1e-4)


@pytest.mark.parametrize("cut", ["mlp", "heads"])
def test_what_cannot_be_expressed_is_refused(cut):
    weights, _, _ = saved("gated")
    if cut == "mlp":
        weights["layers.0.mlp.4.0.weight"] = np.zeros((8, 8))
    else:
        weights["u"] = weights["u"][:1]
    with pytest.raises(ValueError, match="mlp_num=2 and with head_num"):
        DIEngineGTrXL.from_state_dict(weights, MEMORY_LENGTH)


def test_other_wrong_calls_are_answered():
    weights, inputs, _ = saved("gated")
    layer = DIEngineGTrXL.from_state_dict(weights, MEMORY_LENGTH)
    with pytest.raises(ValueError, match="`is_first` is not supported"):
        layer(inputs, is_first=np.zeros(inputs.shape[:2], bool))
    with pytest.raises(ValueError, match="`state_dict` must be network"):
        DIEngineGTrXL.from_state_dict({}, MEMORY_LENGTH)
    with pytest.raises(ValueError, match="embed_inputs='no'"):
        DIEngineGTrXL(1, 2, 4, 8, 6, embed_inputs="no")
    with pytest.raises(ValueError, match="must have num_heads"):
        DIEngineGTrXL(1, 2, 4, 8, 6, embed_inputs=False)(inputs)
