import dataclasses

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer


@dataclasses.dataclass(frozen=True)
class ConstantSchedule:
    """One density from a step on: pruning in one shot.

    Args:
        density: float in (0, 1], kept from `begin_step` on.
        begin_step: int, the optimizer step at which pruning happens. Before
            it everything is kept.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    >>> from keras_sparse_rl.sparsity import ConstantSchedule
    >>> schedule = ConstantSchedule(0.1, begin_step=1000)
    >>> schedule(999), schedule(1000)
    (1.0, 0.1)
    """

    density: float
    begin_step: int = 0

    def __post_init__(self):
        check_density("density", self.density)
        check_integer("begin_step", self.begin_step, minimum=0)

    @property
    def end_step(self):
        """The step from which the density no longer changes."""
        return self.begin_step

    def __call__(self, step):
        """The density after `step` optimizer steps, a float in (0, 1]."""
        return float(self.density) if step >= self.begin_step else 1.0
