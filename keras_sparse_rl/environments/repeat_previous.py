import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment

SUITS, CARDS = 4, 52


class RepeatPrevious(InGraphEnvironment):
    """Says again which suit was dealt some steps ago.

    The task of popgym ("POPGym" by Morad et al. 2023,
    https://arxiv.org/abs/2303.01859): a shuffled deck of 52 cards is dealt,
    suit by suit; the action shall be the suit seen `delay` steps before the
    present one. Each action for which there was one earns or costs
    1 / (52 * decks - 1 - delay), so the best return is 1, and acting at
    random gives -0.5 on average. An episode ends with its deck. The default
    is popgym's `RepeatPreviousEasy`, which counts the present card too (k=4).

    Args:
        delay: int, how many steps back.
        batch_size: int, copies of the environment.
        seed: int.
        decks: int, number of decks dealt in an episode.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import RepeatPrevious
    >>> environment = RepeatPrevious(delay=3, batch_size=3)
    >>> environment.reset().observation.shape
    TensorShape([3])
    """

    def __init__(self, delay=3, batch_size=1, seed=0, decks=1):
        decks = check_integer("decks", decks)
        self._cards = CARDS * decks
        self._delay = check_integer("delay", delay, minimum=0)
        if self._delay >= self._cards - 1:
            raise ValueError(
                f"`delay` must be less than the {self._cards - 1} steps of an "
                f"episode. Received: delay={delay}."
            )
        suits = BoundedTensorSpec((), tf.int32, 0, SUITS - 1)
        super().__init__(suits, suits, batch_size, seed)

    def _start(self, seed):
        keys = tf.random.stateless_uniform((self.batch_size, self._cards), seed)
        # Suits in random order: the ranks of random keys, four suits alike.
        deck = tf.argsort(keys, axis=-1) % SUITS
        return {"deck": deck, "time": tf.zeros((self.batch_size,), tf.int32)}

    def _advance(self, state, action, seed):
        deck, time = state["deck"], state["time"]
        asked = tf.maximum(time - self._delay, 0)
        suit = tf.gather(deck, asked, axis=1, batch_dims=1)
        scale = 1.0 / (self._cards - 1 - self._delay)
        right = tf.equal(tf.cast(action, tf.int32), suit)
        reward = tf.where(right, scale, -scale)
        reward = tf.where(time >= self._delay, reward, 0.0)
        # A row that has ended is restarted next; its time stays in the deck.
        time = tf.minimum(time + 1, self._cards - 1)
        ended = tf.equal(time, self._cards - 1)
        return {"deck": deck, "time": time}, reward, ended, tf.zeros_like(ended)

    def _observe(self, state):
        return tf.gather(state["deck"], state["time"], axis=1, batch_dims=1)
