"""Which part of a network's state outlives episodes."""

EPISODIC = "episodic"


def outlives_episodes(state, is_episodic=False):
    """Which leaves of a state an episode's start leaves alone.

    Those under the key `"episodic"` of a dict, at whatever depth, as in the
    state of `layers.EpisodicLSTM`: a signal of their own clears them. All
    others are forgotten where `is_first` is true.

    Args:
        state: nest of dicts, tuples, and specs or tensors.
        is_episodic: bool, whether all of it outlives episodes.

    Returns:
        Nest of the same form, of bools; lists become tuples.

    Example:

    >>> from keras_sparse_rl.agents.episodic_state import outlives_episodes
    >>> outlives_episodes({"cell": 0, "episodic": {"keys": 1, "clock": 2}})
    {'cell': False, 'episodic': {'keys': True, 'clock': True}}
    """
    if isinstance(state, dict):
        return {
            name: outlives_episodes(part, is_episodic or name == EPISODIC)
            for name, part in state.items()
        }
    if isinstance(state, (tuple, list)):
        return tuple(outlives_episodes(x, is_episodic) for x in state)
    return is_episodic


def without_episodic(state):
    """The part of a state that an episode's start resets.

    Args:
        state: nest of dicts, tuples, and specs or tensors.

    Returns:
        The nest without what `outlives_episodes` marks; lists become tuples.

    Example:

    >>> from keras_sparse_rl.agents.episodic_state import without_episodic
    >>> without_episodic({"cell": 0, "episodic": {"keys": 1, "clock": 2}})
    {'cell': 0}
    """
    if isinstance(state, dict):
        return {
            name: without_episodic(part)
            for name, part in state.items()
            if name != EPISODIC
        }
    if isinstance(state, (tuple, list)):
        return tuple(without_episodic(x) for x in state)
    return state
