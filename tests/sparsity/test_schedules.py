import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_sparse_rl.sparsity import ConstantSchedule
from keras_sparse_rl.sparsity import PolynomialSchedule


def test_constant():
    schedule = ConstantSchedule(0.25, begin_step=10)
    assert [schedule(step) for step in (0, 9, 10, 99)] == [1, 1, 0.25, 0.25]


def test_cubic_by_hand():
    schedule = PolynomialSchedule(
        0.1, begin_step=0, end_step=10, initial_density=0.9
    )
    # 0.1 + 0.8 * (1 - 0.5)**3
    assert schedule(5) == pytest.approx(0.2)
    assert schedule(0) == 0.9 and schedule(10) == 0.1 and schedule(11) == 0.1


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.01, 1))
def test_never_rises(begin, length, final):
    schedule = PolynomialSchedule(final, begin, begin + length)
    values = [schedule(step) for step in range(begin + length + 2)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(final)


def test_a_schedule_is_a_value():
    assert ConstantSchedule(0.1) == ConstantSchedule(0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ConstantSchedule(0.1).density = 0.2


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"final_density": 0}, "final_density"),
        ({"begin_step": -1}, "begin_step"),
        ({"end_step": 5}, "end_step"),
        ({"initial_density": 0.05}, "initial_density"),
        ({"power": -1}, "power"),
    ],
)
def test_bad_arguments(arguments, match):
    good = {"final_density": 0.1, "begin_step": 5, "end_step": 10}
    with pytest.raises(ValueError, match=match):
        PolynomialSchedule(**{**good, **arguments})
