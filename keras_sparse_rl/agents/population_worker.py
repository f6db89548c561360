import math

import numpy as np


class PopulationWorker:
    """Plays members, one after the other."""

    def __init__(self, make_member):
        self._member = make_member()

    def play(self, state, seed, hyperparameters):
        """One round of one member: its score and state, None if diverged."""
        if state is None:
            self._member.reset(seed)
        else:
            self._member.set_state(state)
        try:
            score = float(self._member.train(hyperparameters))
        except FloatingPointError:
            return math.nan, None
        if not math.isfinite(score):
            return math.nan, None
        state = [np.array(x) for x in self._member.get_state()]
        return score, state

    def play_all(self, jobs):
        """`play` for a list of its arguments."""
        return [self.play(*job) for job in jobs]
