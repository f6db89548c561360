import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.sparsity.selection import kernel_densities


class TopKAST(SparsityCallback):
    """Always-sparse training: use the largest weights, train a few more.

    In each kernel the forward set A holds the largest effective weights, the
    backward set B the next largest too. The network computes with A alone;
    weights in B are trained, so those just outside A can grow into it; all
    others stay as they are, bit for bit. See "Top-KAST: Top-K Always Sparse
    Training" by Jayakumar et al. 2020 (https://arxiv.org/abs/2106.03517),
    section 2. The optimizer must be `optimizers.Powerprop(...)`.

    The penalty pulls weights in use towards 0, and those in B outside A
    `1 / forward density` times harder. It acts as a decay of `theta` apart
    from the gradient, at the learning rate. Reported each epoch are
    `forward_density`, `backward_density`, `mask_churn` (share of A that a
    refresh replaced, on average) and `penalty` (the loss whose gradient
    the decay follows, `rate / 2 * (sum A theta^2 + sum B-A theta^2 / D)`).
    The rates are taken back when training ends and are never saved; an
    interrupted `fit` leaves them on until the next one with `TopKAST`.

    Args:
        forward_density: float in (0, 1], the share of weights used.
        backward_density: float, the share trained, from `forward_density`
            to 1. By default twice `forward_density`, at most 1.
        refresh_every: int, optimizer steps between two choices of A and B.
        penalty: float, the rate of the decay in A, times the learning rate.
            With Adam 1e-2 did best, with SGD at 0.1 less is needed.
        explore_steps: int or None, the optimizer step at which exploration
            ends: A stays as it is then, and B becomes A. (That B shrinks is
            recalled from the paper, not read in it.) None never ends. A
            newly compiled optimizer counts from 0 again.
        densities: `"uniform"`, `"erk"`, or a dict of layer, or layer name,
            to its own forward density. The backward density of such a layer
            is in the same proportion.
        exploration: `"largest"` puts the next largest weights into B,
            `"random"` random ones (the paper's ablation).
        seed: int, for `exploration="random"`.
        block_size, pattern: as in `SparsityCallback`. Weights of B outside A
            need no pattern.

    Raises:
        ValueError: if an argument is out of range; and, when training
            starts, if the model has no sparse layer or its optimizer does
            not hold weights outside B.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import TopKAST
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.ones((8, 20))
    >>> history = model.fit(x, y, callbacks=[TopKAST(0.1)], verbose=0)
    >>> round(history.history["forward_density"][0], 3)
    0.1
    """

    holds_resting = True

    def __init__(
        self,
        forward_density,
        backward_density=None,
        refresh_every=100,
        penalty=1e-3,
        explore_steps=None,
        densities="uniform",
        exploration="largest",
        seed=0,
        block_size=1,
        pattern=None,
    ):
        super().__init__(refresh_every, densities, block_size, pattern)
        self.forward_density = check_density("forward_density", forward_density)
        if backward_density is None:
            backward_density = min(1.0, 2 * self.forward_density)
        self.backward_density = check_density(
            "backward_density", backward_density
        )
        if self.backward_density < self.forward_density:
            raise ValueError(
                "`backward_density` must be at least `forward_density`: the "
                "weights in use are always trained. Received: "
                f"forward_density={forward_density}, "
                f"backward_density={backward_density}."
            )
        self.penalty = check_non_negative("penalty", penalty)
        if explore_steps is not None:
            check_integer("explore_steps", explore_steps, minimum=0)
        self.explore_steps = explore_steps
        self.exploration = check_choice(
            "exploration", exploration, ("largest", "random")
        )
        self.seed = check_integer("seed", seed, minimum=0)

    def prepare(self):
        self.require_powerprop("leaves the weights outside B alone")
        self._forward, self._backward = self._shares()
        self.structure.check(self.kernels, self._forward)

    def begin(self):
        for name, kernel in self.kernels.items():
            self.optimizers.set_penalty(
                kernel, self.penalty, self.penalty / self._forward[name]
            )

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        for kernel in self.kernels.values():
            self.optimizers.set_penalty(kernel, 0.0, 0.0)

    def is_stale(self):
        exploring = not self._has_stopped(self._seen_step)
        for name, kernel in self.kernels.items():
            used = self._forward[name]
            trained = self._backward[name] if exploring else used
            if not (
                self.fits(kernel, kernel.forward_mask(), used)
                and self.fits(kernel, kernel.backward_mask(), trained)
            ):
                return True
        return self._seen_step == 0

    def stops_at(self):
        return self.explore_steps

    def new_masks(self, step):
        return {
            name: self._choose(name, kernel, step, position)
            for position, (name, kernel) in enumerate(self.kernels.items())
        }

    def report(self):
        forward, backward = self._densities()
        return {"forward_density": forward, "backward_density": backward}

    def report_epoch(self):
        return {**super().report_epoch(), "penalty": self._penalty_value()}

    def _choose(self, name, kernel, step, position):
        magnitude = abs(kernel.weight())
        forward = self.top(kernel, magnitude, self._forward[name])
        if self._has_stopped(step):
            return forward, forward
        if self.exploration == "random":
            # Not from a running generator: a resumed run must draw the same.
            generator = np.random.default_rng([self.seed, step, position])
            magnitude = generator.random(magnitude.shape)
            magnitude[forward] = np.inf
        # Of the largest, A is part of B: ties break by index in both.
        return forward, self.top(kernel, magnitude, self._backward[name])

    def _shares(self):
        """Forward and backward density of each kernel."""
        forward = kernel_densities(
            self.kernels, self.forward_density, self.densities
        )
        if self.densities == "erk":
            backward = kernel_densities(
                self.kernels, self.backward_density, "erk"
            )
        else:
            ratio = self.backward_density / self.forward_density
            backward = {name: forward[name] * ratio for name in forward}
        return forward, {
            name: min(1.0, max(forward[name], backward[name]))
            for name in forward
        }

    def _has_stopped(self, step):
        return self.explore_steps is not None and step >= self.explore_steps

    def _penalty_value(self):
        value = 0.0
        for name, kernel in self.kernels.items():
            square = np.square(np.asarray(kernel.theta, "float64"))
            mask = np.asarray(kernel.mask)
            value += square[(mask & FORWARD) != 0].sum()
            value += square[mask == BACKWARD].sum() / self._forward[name]
        return float(self.penalty / 2 * value)
