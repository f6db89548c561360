import tensorflow as tf

from keras_sparse_rl.agents.actor_critic_checks import check_auxiliary
from keras_sparse_rl.gradients.gate_gradients import add_gradients


class GatedTerms:
    """The loss terms of an agent that have a gate, each gate with its terms.

    Args:
        loss_terms: list of `LossTerm`, also without a gate.
        variables: list of `keras.Variable`, in the gradients' order.

    Attributes:
        gates: list of the different `GradientGate` objects.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.agents import LossTerm
    >>> from keras_sparse_rl.agents.gated_terms import GatedTerms
    >>> from keras_sparse_rl.gradients import GradientGate
    >>> weight = keras.Variable([1.0], name="weight")
    >>> terms = [LossTerm(name="a", gate=GradientGate()), LossTerm(name="b")]
    >>> total, figures = GatedTerms(terms, [weight]).combine(
    ...     {"a": [keras.ops.array([3.0])], "b": [keras.ops.array([-1.0])]}, 1)
    >>> total[0].numpy(), float(figures["cosine_a"])
    (array([-1.], dtype=float32), -1.0)
    """

    def __init__(self, loss_terms, variables):
        self._names = {}
        self._number = len(variables)
        for term in loss_terms:
            if term.gate is not None:
                self._names.setdefault(term.gate, []).append(term.name)
        for gate, names in self._names.items():
            gate.build(len(names), variables)

    @property
    def gates(self):
        return list(self._names)

    def parts(self, losses):
        """The sum of the losses without a gate, and each that has one.

        Each part costs a backward pass, when training and when compiling.

        Args:
            losses: dict of a loss' name to a number.

        Returns:
            Dict of the same kind, with the sum as `"policy"`.
        """
        gated = {name for names in self._names.values() for name in names}
        main = [loss for name, loss in losses.items() if name not in gated]
        return {
            "policy": tf.add_n(main),
            **{name: losses[name] for name in losses if name in gated},
        }

    def combine(self, per_term_gradients, number):
        """Adds gradients, gating those of gated terms by the others' sum.

        Args:
            per_term_gradients: dict of a loss' name to its list of gradients,
                None where there is none.
            number: int, length of these lists.

        Returns:
            Tuple of a list of gradients and a dict of numbers to report.

        Raises:
            ValueError: if a gate has nothing to do, or other variables are
                trained than when it was made.
        """
        if self._names and number != self._number:
            raise ValueError(
                f"The agent was made with {self._number} trainable variables, "
                f"for which its gates were built, and now trains {number}. "
                "Freeze or unfreeze layers before you make the agent."
            )
        main = [None] * number
        for name, gradients in per_term_gradients.items():
            if not any(name in names for names in self._names.values()):
                main = list(map(add_gradients, main, gradients))
        total, figures = main, {}
        for gate, names in self._names.items():
            auxiliaries = [per_term_gradients.get(name) for name in names]
            for name, auxiliary in zip(names, auxiliaries):
                check_auxiliary(name, main, auxiliary)
            gated = gate(main, auxiliaries)
            total = list(map(add_gradients, total, gated.added))
            cosines, weights = gate.means(gated, main, auxiliaries)
            for row, name in enumerate(names):
                figures[f"cosine_{name}"] = cosines[row]
                figures[f"weight_{name}"] = weights[row]
        return total, figures
