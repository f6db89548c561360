"""The C++ products against NumPy, and their compilation gone wrong."""

import concurrent.futures
import os
import re
import stat

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.execution import sparse_ops
from keras_sparse_rl.execution.sparse_layout import SparseLayout
from keras_sparse_rl.execution.sparse_matmul import masked_matmul
from keras_sparse_rl.execution.sparse_matmul import scatter
from keras_sparse_rl.execution.sparse_matmul import sparse_matmul
from keras_sparse_rl.execution.sparse_matmul import transpose
from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.sparsity import load_sparse_ops

OPS = load_sparse_ops()
needs_ops = pytest.mark.skipif(OPS is None, reason="no C++ compiler")


def matrix(inputs=50, outputs=37, seed=0, room=5):
    """A random layout with every kind of weight, and its NumPy masks."""
    generator = np.random.default_rng(seed)
    forward = generator.random((inputs, outputs)) < 0.2
    forward[:, 3] = False  # an output without weights
    forward[7] = False  # an input without weights
    backward = forward | (generator.random(forward.shape) < 0.2)
    backward[:, 3] = False
    backward &= ~(forward & (generator.random(forward.shape) < 0.1))  # frozen
    capacity = np.count_nonzero(forward | backward) + room
    layout = SparseLayout.from_masks(forward, backward, capacity)
    values = generator.normal(size=capacity).astype("float32")
    return forward, backward, layout, values


def as_tensors(layout):
    return SparseLayout(**{k: tf.constant(v) for k, v in vars(layout).items()})


def entries(layout, outputs):
    begin, _, end = layout.bounds
    columns = np.repeat(np.arange(outputs), end - begin)
    return layout.inputs[: len(columns)], columns


def test_layout_by_hand():
    forward = np.array([[1, 0], [0, 0], [1, 1]], bool)
    backward = np.array([[0, 1], [1, 0], [1, 1]], bool)
    layout = SparseLayout.from_masks(forward, backward, 7)
    # Output 0: inputs 0 and 2 are used, then 1; output 1: 2, then 0.
    assert layout.inputs.tolist() == [0, 2, 1, 2, 0, 0, 0]
    assert layout.mask.tolist() == [1, 3, 2, 3, 2, 0, 0]
    assert layout.bounds.tolist() == [[0, 3], [2, 4], [3, 5]]
    assert layout.outputs_by_input[:3].tolist() == [0, 0, 1]
    assert layout.entries_by_input[:3].tolist() == [0, 1, 3]
    assert layout.bounds_by_input.tolist() == [[0, 1, 1], [1, 1, 3]]


@needs_ops
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [0, 1, 2, 15, 16, 17, 100, 128, 129, 300])
def test_products_are_those_of_numpy(batch, dtype):
    forward, backward, layout, values = matrix()
    generator = np.random.default_rng(1)
    x = tf.cast(generator.normal(size=(50, batch)), dtype)
    upstream = tf.cast(generator.normal(size=(37, batch)), dtype)
    tensors, theta = as_tensors(layout), tf.constant(values)
    bias = tf.constant(generator.normal(size=37), "float32")
    with tf.GradientTape() as tape:
        tape.watch([x, theta, bias])
        y = sparse_matmul(x, theta, tensors, bias)
    gradients = tape.gradient(y, [x, theta, bias], output_gradients=upstream)

    weight = np.zeros(forward.shape)
    where = entries(layout, 37)
    weight[where] = values[: len(where[0])]
    weight *= forward
    wide_x, wide_up = (np.array(tf.cast(t, "float64")) for t in (x, upstream))
    # bfloat16 results are rounded to 8 bits; sums are float32 all the same.
    tolerance = dict(rtol=2e-5, atol=2e-5)
    rounded = tolerance if dtype == "float32" else dict(rtol=5e-3, atol=1e-4)
    found = [tf.cast(t, "float64") for t in (y, gradients[0])]
    product = weight.T @ wide_x + bias.numpy()[:, None]
    np.testing.assert_allclose(found[0], product, **rounded)
    np.testing.assert_allclose(found[1], weight @ wide_up, **rounded)
    expected = np.zeros(len(values))
    dense = (wide_x @ wide_up.T) * backward
    expected[: len(where[0])] = dense[where]
    np.testing.assert_allclose(gradients[1], expected, **tolerance)
    np.testing.assert_allclose(gradients[2], wide_up.sum(1), **tolerance)
    assert y.dtype == gradients[0].dtype == dtype
    assert gradients[1].dtype == "float32"


@needs_ops
def test_masked_products_are_the_same():
    _, _, layout, values = matrix()
    generator = np.random.default_rng(1)
    x = tf.constant(generator.normal(size=(9, 50)), "float32")
    upstream = tf.constant(generator.normal(size=(9, 37)), "float32")
    results = []
    for product in (
        lambda x, v: tf.transpose(
            sparse_matmul(tf.transpose(x), v, as_tensors(layout))
        ),
        lambda x, v: masked_matmul(x, v, as_tensors(layout), 50),
        lambda x, v: x @ scatter(v, as_tensors(layout), 50),
    ):
        theta = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch([x, theta])
            y = product(x, theta)
        results.append([y, *tape.gradient(y, [x, theta], upstream)])
    for a, b in zip(results[0], results[1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(results[0][:2], results[2][:2]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@needs_ops
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (16, 32), (33, 50), (7, 64)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_transpose(shape, dtype):
    x = tf.random.normal(shape, dtype=dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = transpose(x) * 2
    gradient = tape.gradient(y, x, tf.transpose(x))
    for found, expected in ((y, 2 * tf.transpose(x)), (gradient, 2 * x)):
        assert found.dtype == dtype
        np.testing.assert_array_equal(
            tf.cast(found, "float32"), tf.cast(expected, "float32")
        )


@needs_ops
def test_a_chain_is_transposed_at_its_ends_alone(tmp_path):
    layers = [SparseDense(6, 0.5, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    x = tf.random.normal((4, 5))

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(model(x, training=True) ** 2)
        variables = [v.value for v in model.trainable_variables]
        return tape.gradient(loss, [x, *variables])

    function = tf.function(gradients)
    for a, b in zip(function(x), gradients(x)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # What is cut out of a graph, is so when it first runs: look at what ran.
    tf.profiler.experimental.start(str(tmp_path))
    function(x)
    tf.profiler.experimental.stop()
    (profile,) = tmp_path.rglob("*.xplane.pb")
    ran = re.findall(rb"[\w/]+:(\w+)", profile.read_bytes())
    # Input and output, and their gradients.
    assert ran.count(b"KerasSparseRlTranspose") == 4
    assert ran.count(b"KerasSparseRlMatmul") == 6
    assert ran.count(b"Transpose") == 0


@needs_ops
@pytest.mark.parametrize("bad", [-1, 50, 2**30])
def test_entries_outside_are_an_error_not_a_crash(bad):
    _, _, layout, values = matrix()
    layout.inputs[4] = bad
    x = tf.ones((50, 4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside"):
        sparse_matmul(x, tf.constant(values), as_tensors(layout))


@needs_ops
def test_infinities_and_nan_pass_through():
    layout = SparseLayout.from_masks(*[np.ones((1, 1), bool)] * 2, 1)
    for dtype in ("float32", "bfloat16"):
        x = tf.cast([[np.inf, -np.inf, np.nan, 1.0]], dtype)
        y = sparse_matmul(x, tf.constant([2.0]), as_tensors(layout))
        y = np.array(tf.cast(y, "float32"))[0]
        assert y[0] == np.inf and y[1] == -np.inf and y[3] == 2
        assert np.isnan(y[2])


# A compiler that copies the library made before, and counts its calls.
FAKE = """\
#!/bin/sh
echo call >> {log}
sleep {seconds}
while [ "$1" != "-o" ]; do shift; done
head -c {size} {library} > "$2"
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and a compiler that takes no time."""
    library = tmp_path / "library.so"
    path = sparse_ops._library(sparse_ops._compiler())
    data = path.read_bytes()[: -sparse_ops._DIGEST_SIZE]
    library.write_bytes(data)
    compiler = tmp_path / "fake-compiler"
    compiler.write_text(
        FAKE.format(
            log=tmp_path / "log", seconds=0, size=len(data), library=library
        )
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_sparse_ops.cache_clear()
    yield tmp_path
    load_sparse_ops.cache_clear()


def calls(folder):
    return len((folder / "log").read_text().splitlines())


@needs_ops
def test_compiled_once_and_a_corrupt_library_is_made_anew(cache):
    compiler = sparse_ops._compiler()
    path = sparse_ops._library(compiler)
    assert sparse_ops._library(compiler) == path and calls(cache) == 1
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-5] + b"xxxxx"):
        path.write_bytes(damaged)
        assert sparse_ops._library(compiler) == path
        assert path.read_bytes() == whole
    assert calls(cache) == 4
    assert not list(path.parent.glob("tmp*"))


@needs_ops
def test_two_that_compile_at_once_compile_once(cache):
    """A lock belongs to an open file: threads stand in for processes."""
    text = (cache / "fake-compiler").read_text()
    (cache / "fake-compiler").write_text(text.replace("sleep 0", "sleep 1"))
    compiler = sparse_ops._compiler()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(sparse_ops._library, [compiler] * 2))
    assert paths[0] == paths[1] and sparse_ops._is_whole(paths[0])
    assert calls(cache) == 1


def test_without_a_compiler_there_is_one_warning(cache, monkeypatch):
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.delenv("CXX")
    with pytest.warns(UserWarning, match="apt install g"):
        assert load_sparse_ops() is None
    assert load_sparse_ops() is None


def test_a_compiler_that_fails_is_quoted(cache, monkeypatch):
    compiler = cache / "fake-compiler"
    compiler.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    with pytest.warns(UserWarning, match="no such header"):
        assert load_sparse_ops() is None


def test_a_folder_that_cannot_be_written_is_replaced(cache, monkeypatch):
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    folder = sparse_ops._cache_folder()
    assert os.access(folder, os.W_OK)
    folder.rmdir()
