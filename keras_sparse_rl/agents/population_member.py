import abc


class PopulationMember(abc.ABC):
    """What `train_population` trains: something with a state and a score.

    One object plays all members of a population in turn (with Ray: one in
    each process), so that its graphs are compiled once. `AgentMember` is the
    one for agents.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.agents import PopulationMember
    >>> class Climber(PopulationMember):
    ...     def reset(self, seed):
    ...         self.height = np.zeros(1)
    ...     def train(self, hyperparameters):
    ...         self.height += hyperparameters["rate"]
    ...         return float(self.height[0])
    ...     def get_state(self):
    ...         return [self.height]
    ...     def set_state(self, state):
    ...         self.height = state[0].copy()
    >>> climber = Climber()
    >>> climber.reset(seed=0)
    >>> climber.train({"rate": 0.5})
    0.5
    """

    @abc.abstractmethod
    def reset(self, seed):
        """Starts anew.

        Args:
            seed: int, differs from member to member.
        """

    @abc.abstractmethod
    def train(self, hyperparameters):
        """Trains for a round and is evaluated.

        Args:
            hyperparameters: dict of floats by name.

        Returns:
            Float, the score: the larger the better.

        Raises:
            FloatingPointError: if training diverged; the member is then
                replaced by a better one.
        """

    @abc.abstractmethod
    def get_state(self):
        """All that training goes on from, a list of arrays."""

    @abc.abstractmethod
    def set_state(self, state):
        """Goes on from what `get_state` returned."""
