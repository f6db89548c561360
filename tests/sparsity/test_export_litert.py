"""What TensorFlow's converter made of a model, beside what the report says."""

import gzip
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import PowerpropConv2D
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import export_litert
from keras_sparse_rl.sparsity import load_litert
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import topk_mask

X = np.random.default_rng(0).normal(size=(3, 64)).astype("float32")
# Block size and density: on both sides of the converter's two limits.
GRID = [
    (block, density)
    for block in (1, 4)
    for density in (0.72, 0.68, 0.3, 0.036, 0.032, 0.01)
]


def grid():
    """A layer for each cell, known by its number of units, and others."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    layers = [
        PowerpropDense(40 + row, alpha=1.5, name=f"cell{row}")
        for row in range(len(GRID))
    ]
    layers.append(PowerpropDense(60, name="untouched"))
    outputs = [layer(inputs) for layer in layers]
    rows = keras.layers.Reshape((4, 16))(inputs)
    outputs.append(PowerpropDense(61, name="rows")(rows))
    odd = keras.layers.Lambda(lambda x: x[:, :63], output_shape=(63,))(inputs)
    outputs.append(PowerpropDense(62, name="odd")(odd))
    image = keras.layers.Reshape((2, 2, 16))(inputs)
    outputs.append(PowerpropConv2D(63, 1, name="convolution")(image))
    x = [keras.layers.Flatten()(output) for output in outputs]
    model = keras.Model(inputs, keras.layers.Concatenate()(x))
    cells = {f"cell{row}": cell for row, cell in enumerate(GRID)}
    cells.update(rows=(4, 0.1), convolution=(4, 0.1), odd=(1, 0.1))
    for kernel in sparse_kernels(model):
        block, density = cells.get(kernel.layer.name, (1, 1.0))
        mask = topk_mask(abs(kernel.weight()), density, block)
        kernel.assign_masks(mask, mask)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = grid()
    path = tmp_path_factory.mktemp("litert") / "new" / "model.tflite"
    texts = []
    report = export_litert(model, path, print_fn=texts.append)
    return report, path, texts[0], np.array(model(X))


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def interpreter(path):
    loaded = tf.lite.Interpreter(str(path))
    loaded.allocate_tensors()
    return loaded


def test_the_report_is_what_the_converter_did(exported):
    report, path, text, _ = exported
    found = {}
    for tensor in interpreter(path).get_tensor_details():
        sparsity = tensor["sparsity_parameters"]
        if sparsity:
            blocked = len(sparsity["block_map"]) > 0
            units = int(tensor["shape"][0])
            found[units] = "sparse" if blocked else "unpacked"
    foretold = {row["shape"][-1]: row["runs"] for row in report["layers"]}
    assert len(foretold) == len(GRID) + 4
    for units, runs in foretold.items():
        assert found.get(units, "dense") == runs, units
    assert {"sparse", "unpacked", "dense"} == set(foretold.values())
    assert foretold[60] == "dense" and foretold[61] == "sparse"
    assert foretold[63] == "unpacked"
    for row in report["layers"]:
        assert f"{row['name']} " in text and row["runs"] in text


def test_densities_and_sizes_are_right(exported):
    report, path, text, _ = exported
    content = path.read_bytes()
    assert report["path"] == str(path) and f"{len(content):,} bytes" in text
    assert report["size"] == len(content)
    assert report["gzip_size"] == len(gzip.compress(content))
    for row, (block, density) in zip(report["layers"], GRID):
        assert row["density"] == pytest.approx(density, abs=0.01)
        if block == 4:
            assert row["block_density"] == row["density"]
        else:
            empty = (1 - row["density"]) ** 4
            assert row["block_density"] == pytest.approx(1 - empty, abs=0.05)


def test_outputs_are_those_of_the_model(exported):
    _, path, _, expected = exported
    loaded = interpreter(path)
    runner = loaded.get_signature_runner()
    (name,) = runner.get_input_details()
    (output,) = runner(**{name: X}).values()
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


def test_interpreter_of_the_extra(exported):
    pytest.importorskip("ai_edge_litert")
    _, path, _, expected = exported
    run = load_litert(path)
    for rows in (slice(0, 1), slice(0, 3)):
        np.testing.assert_allclose(
            run(X[rows]), expected[rows], rtol=0, atol=1e-5
        )
    with pytest.raises(ValueError, match="has the inputs"):
        run({"nothing": X})


def test_without_the_interpreter_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        load_litert("model.tflite")


def test_sparse_execution_and_plain_models(tmp_path):
    plain = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(3),
        ]
    )
    sparsify(plain, execution="sparse", density=0.02, verbose=0)
    report = export_litert(plain, tmp_path / "a.tflite", print_fn=None)
    assert [row["runs"] for row in report["layers"]] == ["sparse", "dense"]
    densify(plain)
    other = export_litert(plain, tmp_path / "b.tflite", print_fn=None)
    assert other["layers"] == report["layers"]
    # Names of variables are in the file, and a copy's may be longer.
    assert abs(other["size"] - report["size"]) < 100
    assert report["size"] < 0.5 * 4 * 64 * 64


def test_wrong_arguments_are_answered(tmp_path):
    model = keras.Sequential([keras.Input((4,)), PowerpropDense(3)])
    with pytest.raises(ValueError, match="must end in '.tflite'"):
        export_litert(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="keras.Input"):
        export_litert(keras.Sequential([PowerpropDense(3)]), "a.tflite")
