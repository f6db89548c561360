"""What sparsity_summary counts, against numbers worked out by hand."""

import keras
import numpy as np
import pytest

from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import PowerpropLSTM
from keras_sparse_rl.layers import RelativeMultiHeadAttention
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary
from tests.sparsity.flops_by_hand import CASES
from tests.sparsity.flops_by_hand import Block
from tests.sparsity.flops_by_hand import Product
from tests.sparsity.flops_by_hand import Subclassed
from tests.sparsity.flops_by_hand import built

layers = keras.layers


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    template, shape, products, others, vectors = CASES[name]
    layer = type(template).from_config(template.get_config())
    model = built(layer, shape)
    matrices = model.count_params() - vectors
    plain = sparsity_summary(model, print_fn=None)["total"]
    flops = 2 * (products + others)
    assert plain["flops"] == plain["dense_flops"] == flops
    assert plain["parameters"] == plain["used"] == matrices + vectors
    assert plain["density"] == 1.0
    assert plain["density_of_sparse_kernels"] is None
    assert plain["bytes"] == plain["dense_bytes"] == 4 * plain["parameters"]

    sparsify(layer, alpha=2.0, verbose=0)
    prune(layer, 0.25)
    kernels = sparse_kernels(layer)
    used = sum(int(k.forward_mask().sum()) for k in kernels)
    assert sum(np.prod(k.shape) for k in kernels) == matrices
    total = sparsity_summary(model, print_fn=None)["total"]
    assert total["parameters"] == matrices + vectors
    assert total["used"] == used + vectors
    assert total["density"] == total["used"] / total["parameters"]
    assert total["density_of_sparse_kernels"] == used / matrices
    assert total["backward_density_of_sparse_kernels"] == used / matrices
    assert total["dense_flops"] == flops
    sparse = total["flops"] / 2 - others
    assert sparse == pytest.approx(0.25 * products, rel=0.2)
    assert total["dense_bytes"] == plain["dense_bytes"]
    assert total["bytes"] < 0.6 * plain["bytes"]

    densify(layer)
    again = sparsity_summary(model, print_fn=None)["total"]
    assert again == plain


def test_names_of_rows_are_those_of_the_layers():
    model = built(Block(name="block"), (5,))
    rows = sparsity_summary(model, print_fn=None)["layers"]
    found = {row["name"]: row["parameters"] for row in rows}
    assert found == {"block": 3, "wide": 36, "out": 21}


def test_weights_and_masks_on_different_layers():
    """PowerpropLSTM has the masks, its cell the matrices."""
    model = built(PowerpropLSTM(4, name="memory"), (7, 8))
    prune(model, 0.5)
    (row,) = sparsity_summary(model, print_fn=None)["layers"]
    assert row["name"] == "memory"
    assert row["parameters"] == 8 * 16 + 4 * 16 + 16
    assert row["used"] == 64 + 32 + 16
    assert row["flops"] == 2 * 7 * 96
    assert row["bytes"] == 4 * 112 + 192 // 8


def test_a_subclassed_model_counts_every_layer():
    model = Subclassed()
    model(np.ones((3, 8), "float32"))
    sparsify(model, verbose=0)
    prune(model, 0.1)
    summary = sparsity_summary(model, print_fn=None)
    body, last = summary["layers"]
    assert (body["name"], last["name"]) == ("body", "last")
    assert body["used"] == 8 + 10 and last["used"] == 22
    assert body["flops"] == 16 and last["flops"] == 40
    assert summary["total"]["density"] == 40 / 112
    assert summary["total"]["density_of_sparse_kernels"] == 0.1


def test_what_nobody_knows_is_not_a_number():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4), Product(name="own")]
    )
    sparsify(model, verbose=0)
    prune(model, 0.5)
    texts = []
    summary = sparsity_summary(model, texts.append)
    dense, own = summary["layers"]
    assert own["parameters"] == 15 and dense["flops"] == 2 * 16
    assert own["flops"] is None and summary["total"]["flops"] is None
    assert summary["total"]["dense_flops"] is None
    assert "?" in texts[0].splitlines()[-1]


def test_a_users_matrix_is_counted_once_without_its_mask():
    layer = Product(name="own")
    model = built(layer, (8,))
    sparsify(layer, alpha=2.0, verbose=0)
    prune(layer, 0.25)
    (row,) = sparsity_summary(model, print_fn=None)["layers"]
    assert row["parameters"] == 24 + 3 and row["used"] == 6 + 3
    assert row["shape"] == (8, 3)
    assert row["bytes"] == 4 * 9 + 3


@pytest.mark.parametrize(
    "layer",
    [
        EpisodicLSTM(4, EpisodicMemory(10, key_dim=2, value_dim=4)),
        RelativeMultiHeadAttention(2, 4),
    ],
    ids=["EpisodicLSTM", "RelativeMultiHeadAttention"],
)
def test_layers_over_a_memory_are_one_row_of_unknown_flops(layer):
    layer.build((None, 7, 8))
    (row,) = sparsity_summary(layer, print_fn=None)["layers"]
    assert row["flops"] is None
    assert row["parameters"] == layer.count_params()


def test_a_subclass_that_computes_something_else_is_unknown():
    class Twice(layers.Dense):
        def call(self, inputs):
            return super().call(super().call(inputs))

    class Same(layers.Dense):
        pass

    for kind, flops in ((Twice, None), (Same, 2 * 64)):
        model = built(kind(8), (8,))
        assert sparsity_summary(model, None)["total"]["flops"] == flops


def test_shared_layers_and_matrices_count_once():
    shared = layers.Dense(8, name="shared")

    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = shared

        def call(self, inputs):
            return self.inner(inputs)

    inputs = keras.Input((8,))
    model = keras.Model(inputs, Holder()(shared(Holder()(inputs))))
    (row,) = sparsity_summary(model, print_fn=None)["layers"]
    assert row["parameters"] == 72 and row["flops"] == 2 * 64


def test_layers_of_vectors_and_tables_are_free():
    table = keras.Sequential([keras.Input((3,)), layers.Embedding(10, 4)])
    assert sparsity_summary(table, None)["total"]["flops"] == 0
    for layer in (
        layers.BatchNormalization(),
        layers.LayerNormalization(axis=(1, 2)),
        layers.Normalization(axis=(1, 2), mean=None),
        layers.PReLU(),
    ):
        total = sparsity_summary(built(layer, (4, 3)), None)["total"]
        assert total["flops"] == 0 and total["parameters"] > 0


def test_the_table_says_both_shares():
    model = keras.Sequential(
        [keras.Input((50,)), PowerpropDense(20, name="sparse"), layers.Dense(5)]
    )
    prune(model, 0.1)
    texts = []
    total = sparsity_summary(model, texts.append)["total"]
    head, first, second, last = texts[0].splitlines()
    assert head.split()[2:6] == ["kernels", "trained", "weights", "left"]
    assert "10.00%" in first and "120 of 1,020" in first and "11.76%" in first
    assert "100.00%" in second and "10.00%" not in second
    assert total["density"] == (120 + 105) / (1020 + 105)
    assert "20.00%" in last and "225 of 1,125" in last
