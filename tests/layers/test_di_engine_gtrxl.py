"""DI-engine's weights give DI-engine's outputs."""

import pathlib

import keras
import numpy as np
import pytest

from keras_sparse_rl.layers import DIEngineGTrXL

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
    output, _ = layer.step(inputs[:, 0], layer.initial_state(3))
    single, _ = layer(inputs[:, :1])
    np.testing.assert_allclose(output, single[:, 0], atol=1e-5)


@pytest.mark.parametrize("cut", ["mlp", "heads"])
def test_what_cannot_be_expressed_is_refused(cut):
    weights, _, _ = saved("gated")
    if cut == "mlp":
        weights["layers.0.mlp.4.0.weight"] = np.zeros((8, 8))
    else:
        weights["u"] = weights["u"][:1]
    with pytest.raises(ValueError, match="mlp_num=2 and with head_num"):
        DIEngineGTrXL.from_state_dict(weights, MEMORY_LENGTH)
