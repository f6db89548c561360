import dataclasses

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule:
    """A density that falls fast first and slowly towards the end.

    The cubic schedule of gradual magnitude pruning (Zhu & Gupta 2017,
    https://arxiv.org/abs/1710.01878, equation 1), written for densities:
    `final + (initial - final) * (1 - progress)**power`.

    Args:
        final_density: float in (0, 1], reached at `end_step`.
        begin_step: int, the optimizer step at which pruning begins.
        end_step: int, larger than `begin_step`.
        initial_density: float in (0, 1], at `begin_step`.
        power: float, 1 is linear.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    >>> from keras_sparse_rl.sparsity import PolynomialSchedule
    >>> schedule = PolynomialSchedule(0.1, begin_step=100, end_step=300)
    >>> schedule(0), round(schedule(200), 4), schedule(300)
    (1.0, 0.2125, 0.1)
    """

    final_density: float
    begin_step: int
    end_step: int
    initial_density: float = 1.0
    power: float = 3.0

    def __post_init__(self):
        check_density("final_density", self.final_density)
        check_density("initial_density", self.initial_density)
        check_integer("begin_step", self.begin_step, minimum=0)
        check_integer("end_step", self.end_step, minimum=1)
        check_non_negative("power", self.power)
        if self.end_step <= self.begin_step:
            raise ValueError(
                "`end_step` must be larger than `begin_step`. Received: "
                f"begin_step={self.begin_step}, end_step={self.end_step}. To "
                "prune in one shot use ConstantSchedule."
            )
        if self.final_density > self.initial_density:
            raise ValueError(
                "`final_density` must not exceed `initial_density`: pruned "
                "weights do not come back. Received: "
                f"initial_density={self.initial_density}, "
                f"final_density={self.final_density}."
            )

    def __call__(self, step):
        """The density after `step` optimizer steps, a float in (0, 1]."""
        if step < self.begin_step:
            return 1.0
        length = self.end_step - self.begin_step
        left = 1 - min(1.0, (step - self.begin_step) / length)
        span = self.initial_density - self.final_density
        return self.final_density + span * left**self.power
