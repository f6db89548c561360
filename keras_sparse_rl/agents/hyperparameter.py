import dataclasses
import math

import numpy as np

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_positive


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """A number that a population searches, and its bounds.

    Args:
        low: float, smallest value.
        high: float, largest value.
        log: bool. True: values are drawn evenly on a logarithmic scale and
            multiplied by `1 - step` or `1 + step`; False: drawn evenly, and
            moved up or down by `step` times the range.
        step: float above 0.

    Raises:
        ValueError: if `low` is not below `high`, or not positive with `log`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.agents import Hyperparameter
    >>> rate = Hyperparameter(1e-4, 1e-2, log=True)
    >>> round(rate.perturb(9e-3, np.random.default_rng(0)), 4)
    0.0072
    """

    low: float
    high: float
    log: bool = False
    step: float = 0.2

    def __post_init__(self):
        check_flag("log", self.log)
        check_positive("step", self.step)
        check_finite("high", self.high)
        (check_positive if self.log else check_finite)("low", self.low)
        if self.low >= self.high:
            raise ValueError(
                "`low` must be below `high`. Received: "
                f"low={self.low}, high={self.high}."
            )

    def sample(self, generator):
        """A value drawn from the whole range.

        Args:
            generator: `numpy.random.Generator`.
        """
        if not self.log:
            return float(generator.uniform(self.low, self.high))
        low, high = math.log(self.low), math.log(self.high)
        return self._bounded(math.exp(generator.uniform(low, high)))

    def perturb(self, value, generator):
        """A value a step above or below, within the bounds.

        Args:
            value: float.
            generator: `numpy.random.Generator`.
        """
        step = self.step if generator.random() < 0.5 else -self.step
        if self.log:
            return self._bounded(value * (1 + step))
        return self._bounded(value + step * (self.high - self.low))

    def _bounded(self, value):
        return float(np.clip(value, self.low, self.high))
