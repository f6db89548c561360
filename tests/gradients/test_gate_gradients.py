"""Cosines and gates against NumPy in float64, and the paper's guarantee."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_sparse_rl.gradients import GradientGate
from keras_sparse_rl.gradients import gate_gradients
from keras_sparse_rl.gradients import gradient_cosine

SHAPES = [(3, 4), (4,), (2, 2, 3), (5,), (1,)]


def gradients(seed, missing=(), dtype="float64", scale=1.0):
    generator = np.random.default_rng(seed)
    found = [scale * generator.normal(size=shape) for shape in SHAPES]
    return [
        None if k in missing else x.astype(dtype) for k, x in enumerate(found)
    ]


def expected_gate(main, auxiliaries, mode, threshold, cap, groups):
    """The definition, written from the paper's equations."""
    result = [None if g is None else g.copy() for g in main]
    cosines, weights = [], []
    for auxiliary in auxiliaries:
        cosines.append([])
        weights.append([])
        for group in range(max(groups) + 1):
            places = [
                k
                for k in range(len(main))
                if groups[k] == group
                and main[k] is not None
                and auxiliary[k] is not None
            ]
            a = np.concatenate([main[k].ravel() for k in places] + [[]])
            b = np.concatenate([auxiliary[k].ravel() for k in places] + [[]])
            lengths = np.linalg.norm(a), np.linalg.norm(b)
            cosine = a @ b / np.prod(lengths) if np.prod(lengths) else 0.0
            weight = max(0.0, cosine)
            if mode == "unweighted":
                weight = float(cosine > threshold)
            if cap is not None and weight * lengths[1] > cap * lengths[0]:
                weight = cap * lengths[0] / lengths[1]
            cosines[-1].append(cosine)
            weights[-1].append(weight)
        for k, gradient in enumerate(auxiliary):
            if gradient is None:
                continue
            if main[k] is None:
                result[k] = gradient + (0 if result[k] is None else result[k])
            else:
                result[k] = result[k] + weights[-1][groups[k]] * gradient
    return result, cosines, weights


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 10**6), min_size=2, max_size=4, unique=True),
    mode=st.sampled_from(["weighted", "unweighted"]),
    threshold=st.sampled_from([0.0, 0.1, -0.2]),
    cap=st.sampled_from([None, 0.05, 1.0]),
    groups=st.sampled_from([[0] * 5, [0, 1, 2, 3, 4], [0, 0, 1, 1, 0]]),
    missing=st.sampled_from([(), (1,), (0, 4)]),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_equals_the_definition(
    seeds, mode, threshold, cap, groups, missing, scale
):
    main = gradients(seeds[0], missing=(2,))
    auxiliaries = [gradients(s, missing, scale=scale) for s in seeds[1:]]
    found = gate_gradients(main, auxiliaries, mode, threshold, cap, groups)
    result, cosines, weights = expected_gate(
        main, auxiliaries, mode, threshold, cap, groups
    )
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-12)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-9, atol=1e-15)
    for a, b in zip(found.gradients, result, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    one = gradient_cosine(main, auxiliaries[0], groups)
    np.testing.assert_allclose(one, cosines[0], atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_narrow_types_are_compared_in_float32(dtype):
    def tensors(found):
        return [tf.cast(g, dtype) for g in found]

    main, auxiliary = tensors(gradients(0)), tensors(gradients(1))
    wide = [
        [np.asarray(tf.cast(g, "float64")) for g in m]
        for m in (main, auxiliary)
    ]
    groups = [0] * 5
    expected, cosines, _ = expected_gate(
        wide[0], [wide[1]], "weighted", 0.0, None, groups
    )
    found = gate_gradients(main, [auxiliary])
    assert found.cosines.dtype == tf.float32
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    precision = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for a, b in zip(found.gradients, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(
            tf.cast(a, "float64"), b, atol=precision, rtol=precision
        )


def test_rows_of_an_embedding():
    rows = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [1.0, 1.0]]),
        tf.constant([4, 0, 4]),
        tf.constant([5, 2]),
    )
    dense = np.zeros((5, 2), "float32")
    dense[4], dense[0] = [2, 3], [3, 4]
    other = np.arange(10.0, dtype="float32").reshape(5, 2)
    flat = dense.ravel(), other.ravel()
    expected = flat[0] @ flat[1]
    expected /= np.linalg.norm(flat[0]) * np.linalg.norm(flat[1])
    for pair in (([rows], [other]), ([other], [rows])):
        assert float(gradient_cosine(*pair)) == pytest.approx(expected)
    found = gate_gradients([rows], [[other]])
    np.testing.assert_allclose(
        found.gradients[0], dense + expected * other, rtol=1e-6
    )


def test_zero_and_not_finite_gradients():
    zero, some = [np.zeros(3, "float32")], [np.ones(3, "float32")]
    bad = [np.array([1.0, np.inf, 0.0], "float32")]
    for main, auxiliary in ((zero, some), (some, zero), (zero, zero)):
        assert float(gradient_cosine(main, auxiliary)) == 0
        for mode in ("weighted", "unweighted"):
            found = gate_gradients(main, [auxiliary], mode, norm_cap=1.0)
            np.testing.assert_array_equal(found.gradients[0], main[0])
    assert np.isnan(float(gradient_cosine(some, bad)))
    # What is not finite must be seen by loss scaling, not hidden by a 0.
    assert not np.isfinite(gate_gradients(some, [bad]).gradients[0]).all()


@pytest.mark.parametrize("mode", ["weighted", "unweighted"])
@pytest.mark.parametrize("scope", ["model", "variable"])
def test_sgd_never_opposes_the_main_gradient(mode, scope):
    """100,000 steps on quadratics, with a field that is no gradient too."""
    generator = np.random.default_rng(0)
    size, copies = 20, 50
    variables = [
        keras.Variable(np.zeros((size // 2,)), name=str(k)) for k in range(2)
    ]
    gate = GradientGate(mode, scope=scope)
    gate.build(2, variables)
    curvature = tf.constant(generator.uniform(0.1, 2.0, (copies, size)))
    optimum, other = (
        tf.constant(generator.normal(size=(copies, size))) for _ in range(2)
    )
    turn = generator.normal(size=(copies, size, size))
    turn = tf.constant(turn - turn.transpose(0, 2, 1))
    wind = tf.constant(generator.normal(size=(copies, size)))

    def one(values):
        theta, curvature, optimum, other, turn, wind = values
        main = curvature * (theta - optimum)
        conflict = theta - other
        rotation = tf.linalg.matvec(turn, theta - optimum) + wind
        halves = [tf.split(g, 2) for g in (main, conflict, rotation)]
        step = tf.concat(gate(halves[0], halves[1:]).gradients, 0)
        return step, tf.reduce_sum(step * main) - tf.reduce_sum(main**2)

    @tf.function
    def run(theta):
        worst = tf.constant(np.inf, tf.float64)
        for number in tf.range(2000):
            step, margin = tf.vectorized_map(
                one, (theta, curvature, optimum, other, turn, wind)
            )
            rate = 0.02 / (1.0 + tf.cast(number, tf.float64) / 200.0)
            theta -= rate * step
            worst = tf.minimum(worst, tf.reduce_min(margin))
        return theta, worst

    start = tf.constant(generator.normal(size=(copies, size)))
    theta, worst = run(start)
    assert float(worst) >= -1e-12

    def loss(theta):
        return np.sum(curvature * (theta - optimum) ** 2)

    # It converges towards the main optimum whatever the fields want.
    assert loss(theta) < 0.05 * loss(start)


def test_average_of_the_cosine():
    gate = GradientGate(smoothing=0.8)
    variable = keras.Variable(np.zeros(2), name="v")
    gate.build(1, [variable])
    main = [np.array([1.0, 0.0])]
    seen, average = [1.0, -0.6, 0.8, 0.0], 0.0
    for step, cosine in enumerate(seen, start=1):
        auxiliary = [np.array([cosine, np.sqrt(1 - cosine**2)])]
        found = gate(main, [auxiliary])
        average = 0.8 * average + 0.2 * cosine
        expected = max(0.0, average / (1 - 0.8**step))
        assert float(found.weights[0, 0]) == pytest.approx(expected, abs=1e-6)
        assert float(found.cosines[0, 0]) == pytest.approx(cosine, abs=1e-9)
    before = [v.numpy() for v in gate.variables]
    gate(main, [[np.array([np.nan, 1.0])]])
    for a, b in zip(before, gate.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    gate.build(1, [variable])
    assert float(gate.variables[1]) == 0


def test_scopes():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)]
    )
    variables = model.trainable_variables
    ones = [np.ones(v.shape, "float32") for v in variables]
    for scope, number in (("model", 1), ("layer", 2), ("variable", 4)):
        gate = GradientGate(scope=scope)
        gate.build(1, variables)
        assert gate(ones, [ones]).weights.shape == (1, number)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(mode="both"), "`mode`"),
        (dict(threshold=np.nan), "`threshold`"),
        (dict(norm_cap=0.0), "`norm_cap`"),
        (dict(scope="block"), "`scope`"),
        (dict(smoothing=1.0), "`smoothing`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientGate(**arguments)


def test_bad_lists():
    one, two = gradients(0)[:1], gradients(1)[:2]
    with pytest.raises(ValueError, match="`auxiliary` must have one entry"):
        gradient_cosine(one, two)
    with pytest.raises(ValueError, match="`groups` must have one entry"):
        gradient_cosine(two, two, [0])
    with pytest.raises(ValueError, match="shapes .3,. and .1,. at place 0"):
        gradient_cosine([np.ones(3)], [np.ones(1)])
    with pytest.raises(ValueError, match="knows no variables yet"):
        GradientGate()(one, [one])
    with pytest.raises(ValueError, match="no variable in common"):
        gradient_cosine([None, two[1]], [two[0], None])
    with pytest.raises(ValueError, match="Auxiliary 1 shares no variable"):
        gate_gradients([None, two[1]], [two, [two[0], None]])
