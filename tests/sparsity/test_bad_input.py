"""Arguments out of range or of a wrong type are named, with the remedy."""

import builtins
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_sparse_rl
from keras_sparse_rl import callbacks
from keras_sparse_rl import sparsity
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.continual import EfficientPackNet
from keras_sparse_rl.continual import TaskModel
from keras_sparse_rl.kernels.blocks import block_means
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity.mask_choice import choose_masks

ONES = np.ones((8, 8), "float32")
SHAPES = {"a": (8, 4)}
UNBUILT = keras.Sequential([PowerpropDense(3)])


def sparse_model():
    return keras.Sequential([keras.Input((8,)), PowerpropDense(4)])


CALLS = {
    "keep_count 1.5": ("density", lambda: sparsity.keep_count(1.5, 10)),
    "keep_count text": ("density", lambda: sparsity.keep_count("0.1", 10)),
    "keep_count of none": ("size", lambda: sparsity.keep_count(0.5, 0)),
    "keep_count of half": ("size", lambda: sparsity.keep_count(0.5, 2.5)),
    "topk block 0": ("block_size", lambda: sparsity.topk_mask(ONES, 0.5, 0)),
    "topk block 1.5": (
        "block_size",
        lambda: sparsity.topk_mask(ONES, 0.5, 1.5),
    ),
    "topk of nothing": ("scores", lambda: sparsity.topk_mask([], 0.5)),
    "topk of None": ("scores", lambda: sparsity.topk_mask(None, 0.5)),
    "topk of text": ("scores", lambda: sparsity.topk_mask("weights", 0.5)),
    "topk of a number": ("scores", lambda: sparsity.topk_mask(3.0, 0.5)),
    "topk ragged": ("scores", lambda: sparsity.topk_mask([[1], [1, 2]], 0.5)),
    "global of nothing": (
        "scores",
        lambda: sparsity.global_topk_masks([], 0.5),
    ),
    "global with an empty one": (
        r"scores\[1\]",
        lambda: sparsity.global_topk_masks([ONES, []], 0.5),
    ),
    "global density": (
        "density",
        lambda: sparsity.global_topk_masks([ONES], 0),
    ),
    "global block": (
        "block_size",
        lambda: sparsity.global_topk_masks([ONES], 0.5, -1),
    ),
    "block_means": ("block_size", lambda: block_means(ONES, "4")),
    "choose_masks": (
        "scope",
        lambda: choose_masks({"a": ONES}, 0.5, scope="all"),
    ),
    "uniform without shapes": (
        "shapes",
        lambda: sparsity.uniform_densities(None, 0.5),
    ),
    "erk of a list": ("shapes", lambda: sparsity.erk_densities([(8, 4)], 0.5)),
    "erk of sizes": ("shapes", lambda: sparsity.erk_densities({"a": 32}, 0.5)),
    "erk of no weights": (
        "shapes",
        lambda: sparsity.erk_densities({"a": (0, 4)}, 0.5),
    ),
    "erk fixed": ("fixed", lambda: sparsity.erk_densities(SHAPES, 0.5, ["a"])),
    "schedule": ("density", lambda: sparsity.ConstantSchedule("0.1")),
    "DenseGradients 0": ("every", lambda: callbacks.DenseGradients(every=0)),
    "DenseGradients 1.5": ("every", lambda: callbacks.DenseGradients(1.5)),
    "MagnitudePruning": (
        "scope",
        lambda: MagnitudePruning(0.1, scope="global", densities="erk"),
    ),
    "prune regrow": (
        "regrow",
        lambda: sparsity.prune(sparse_model(), 0.1, regrow=None),
    ),
    "prune scope": (
        "scope",
        lambda: sparsity.prune(sparse_model(), 0.1, scope="model"),
    ),
    "prune densities": (
        "densities",
        lambda: sparsity.prune(sparse_model(), 0.1, densities=None),
    ),
    "load_litert": ("path", lambda: sparsity.load_litert("nothing.tflite")),
    "export to None": (
        "path",
        lambda: sparsity.export_litert(sparse_model(), None),
    ),
    "export of a layer": (
        "model",
        lambda: sparsity.export_litert(keras.layers.Dense(3), "a.tflite"),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_argument_is_named(name):
    argument, call = CALLS[name]
    if name == "load_litert":
        pytest.importorskip("ai_edge_litert")
    errors = (ValueError, TypeError, FileNotFoundError)
    with pytest.raises(errors, match=rf"`?{argument}"):
        call()


TOOLS = {
    "sparsify": sparsity.sparsify,
    "densify": sparsity.densify,
    "prune": lambda model: sparsity.prune(model, 0.1),
    "sparsity_summary": sparsity.sparsity_summary,
    "export_litert": lambda m: sparsity.export_litert(m, "model.tflite"),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_no_model_is_named(tool):
    for wrong in (None, "model.keras", 3, [keras.layers.Dense(3)]):
        with pytest.raises(TypeError, match=r"`model` must be.*Received"):
            TOOLS[tool](wrong)
    with pytest.raises(ValueError, match=r"no weights yet.*keras\.Input"):
        TOOLS[tool](UNBUILT)


def narrow_and_wide():
    """Two layers, of which one has all the smallest weights."""
    keras.utils.set_random_seed(0)
    small = keras.initializers.RandomUniform(-1e-3, 1e-3)
    return keras.Sequential(
        [
            keras.Input((32,)),
            PowerpropDense(16, name="wide"),
            PowerpropDense(8, name="narrow", kernel_initializer=small),
        ]
    )


def used(model):
    return [int(k.forward_mask().sum()) for k in sparse_kernels(model)]


@pytest.mark.parametrize("block_size", [1, 4])
def test_global_pruning_leaves_something_of_each_kernel(block_size):
    model = narrow_and_wide()
    sparsity.prune(model, 0.05, scope="global", block_size=block_size)
    assert used(model)[1] == block_size
    assert sum(used(model)) == round(0.05 * 640 / block_size) * block_size
    # What is left of it is its largest weight, or block.
    kernel = sparse_kernels(model)[1]
    largest = sparsity.topk_mask(abs(kernel.weight()), 1e-6, block_size)
    np.testing.assert_array_equal(kernel.forward_mask(), largest)
    sparsity.prune(model, 1e-6, scope="global")
    assert used(model) == [1, 1]


def test_global_magnitude_pruning_leaves_something_and_settles():
    model = narrow_and_wide()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = MagnitudePruning(1e-6, refresh_every=2, scope="global")
    x, y = np.ones((8, 32)), np.ones((8, 8))
    model.fit(x, y, batch_size=2, callbacks=[callback], verbose=0)
    assert used(model) == [1, 1]
    assert not callback.is_stale()


def test_efficient_packnet_leaves_something_of_each_kernel():
    model = TaskModel(narrow_and_wide())
    model.compile(Powerprop("sgd"), "mse")
    x, y = np.ones((8, 32)), np.ones((8, 8))
    callback = EfficientPackNet(
        "task",
        (x, y),
        monitor="loss",
        mode="min",
        tolerance=0.99,
        densities=[0.001],
        scope="global",
    )
    model.fit(x, y, callbacks=[callback], verbose=0)
    assert all(used(model.network))


def test_global_masks_are_the_top_where_none_would_be_empty():
    generator = np.random.default_rng(0)
    scores = [generator.integers(0, 9, (20, 5)), generator.integers(0, 9, 40)]
    masks = sparsity.global_topk_masks(scores, 0.2)
    flat = np.concatenate([array.reshape(-1) for array in scores])
    found = np.concatenate([mask.reshape(-1) for mask in masks])
    np.testing.assert_array_equal(found, sparsity.topk_mask(flat, 0.2))
    with pytest.raises(ValueError, match="diverged"):
        sparsity.global_topk_masks([[1.0, np.nan], [1.0]], 0.5)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_frozen_layer_in_densities_is_called_frozen(by_name):
    model = narrow_and_wide()
    frozen = model.get_layer("wide")
    frozen.trainable = False
    model.compile(Powerprop("adam"), "mse")
    key = "wide" if by_name else frozen
    callback = TopKAST(0.1, densities={key: 0.3})
    with pytest.raises(ValueError, match=r"'wide', which is frozen"):
        model.fit(ONES @ np.ones((8, 32)), ONES, callbacks=[callback])
    with pytest.raises(ValueError, match=r"no sparse layer 'other'"):
        callback = TopKAST(0.1, densities={"other": 0.3})
        model.fit(ONES @ np.ones((8, 32)), ONES, callbacks=[callback])
    assert sparsity.prune(model, 0.1, densities={key: 0.3}) > 0.1


PACKAGES = [
    module.name
    for module in pkgutil.iter_modules(keras_sparse_rl.__path__)
    if module.ispkg and module.name not in ("agents", "environments")
]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_star_brings_public_names_and_none_of_pythons(name):
    package = importlib.import_module(f"keras_sparse_rl.{name}")
    public = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not type(value).__name__ == "module"
    }
    names = set(getattr(package, "__all__", ()))
    assert names >= public
    assert not names & set(dir(builtins))
    namespace = {}
    exec(f"from keras_sparse_rl.{name} import *", namespace)
    assert set(namespace) - {"__builtins__"} == names or not names
