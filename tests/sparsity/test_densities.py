import math

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_sparse_rl.sparsity import erk_densities
from keras_sparse_rl.sparsity import uniform_densities

shapes = st.lists(
    st.lists(st.integers(1, 60), min_size=2, max_size=4).map(tuple),
    min_size=1,
    max_size=5,
).map(lambda items: {f"kernel{i}": s for i, s in enumerate(items)})


def total(shapes, densities):
    weights = sum(densities[n] * math.prod(shapes[n]) for n in shapes)
    return weights / sum(math.prod(shape) for shape in shapes.values())


def test_lenet_by_hand():
    shapes = {"a": (784, 300), "b": (300, 100), "c": (100, 10)}
    found = erk_densities(shapes, 0.1)
    # c alone would need 110 / 1000 * scale; scale from the budget of 26,620
    # weights over 1084 + 400 + 110 = 1594 sums: 16.7, so c is dense; then
    # (26,620 - 1000) / 1484 = 17.264.
    assert found["c"] == 1.0
    assert found["a"] == pytest.approx(17.264 * 1084 / 235_200, rel=1e-4)
    assert found["b"] == pytest.approx(17.264 * 400 / 30_000, rel=1e-4)


@given(shapes=shapes, density=st.floats(0.01, 1.0))
@settings(max_examples=200, deadline=None)
def test_erk_has_the_density_asked_for(shapes, density):
    found = erk_densities(shapes, density)
    assert all(0 < value <= 1 for value in found.values())
    assert total(shapes, found) == pytest.approx(density, rel=1e-6)
    raw = {n: sum(shapes[n]) / math.prod(shapes[n]) for n in shapes}
    free = [n for n in found if found[n] < 1]
    scales = [found[n] / raw[n] for n in free]
    assert scales == pytest.approx(scales[:1] * len(free))


def test_fixed_kernels_count():
    shapes = {"a": (10, 10), "b": (10, 10), "c": (20, 10)}
    found = erk_densities(shapes, 0.5, fixed={"a": 1.0})
    assert found["a"] == 1.0
    assert total(shapes, found) == pytest.approx(0.5)
    found = uniform_densities(shapes, 0.2, fixed={"c": 0.7})
    assert found == {"a": 0.2, "b": 0.2, "c": 0.7}


def test_errors_say_what_to_do():
    shapes = {"a": (10, 10), "b": (10, 10)}
    with pytest.raises(ValueError, match=r"density=0.1.*Raise"):
        erk_densities(shapes, 0.1, fixed={"a": 0.9})
    with pytest.raises(ValueError, match=r"\['z'\].*\['a', 'b'\]"):
        uniform_densities(shapes, 0.1, fixed={"z": 0.9})
    with pytest.raises(ValueError, match="density=0"):
        uniform_densities(shapes, 0)
