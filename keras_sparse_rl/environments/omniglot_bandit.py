import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.contextual_bandit import ContextualBandit
from keras_sparse_rl.environments.omniglot import check_characters
from keras_sparse_rl.environments.omniglot import load_omniglot


class OmniglotBandit(ContextualBandit):
    """A bandit whose good arm is told by a hand-drawn character.

    `BarcodeBandit` with images for barcodes, after "Been There, Done That" by
    Ritter et al. 2018 (https://arxiv.org/abs/1805.09692), section 4.2: every
    task draws `num_contexts` characters, and every episode one of the
    drawings of its character, so that a memory needs keys that are alike for
    drawings of one character. The context is an image `(size, size, 1)`, 1
    where there is ink.

    Args:
        folder: path of Omniglot's images, see `load_omniglot`.
        num_arms: int.
        num_contexts: int, characters of a task.
        exposures: int, episodes of each character.
        pulls: int, steps of an episode.
        size: int, pixels a side.
        same_drawing: bool, whether a character is always shown by its first
            drawing.
        characters: list of ints, which characters to draw tasks from; None
            for all.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if the folder is missing or is none of Omniglot, if it has
            fewer characters than a task, or an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import OmniglotBandit
    >>> OmniglotBandit("nowhere")
    Traceback (most recent call last):
    ValueError: `folder` must be a folder of Omniglot's images...
    """

    def __init__(
        self,
        folder,
        num_arms=10,
        num_contexts=10,
        exposures=10,
        pulls=10,
        size=28,
        same_drawing=False,
        characters=None,
        batch_size=1,
        seed=0,
    ):
        self._images = load_omniglot(folder, size)
        self._same_drawing = check_flag("same_drawing", same_drawing)
        self._characters = check_characters(characters, len(self._images))
        if len(self._characters) < check_integer("num_contexts", num_contexts):
            raise ValueError(
                "`num_contexts` must be at most the number of characters to "
                f"draw from, {len(self._characters)}. Received: num_contexts="
                f"{num_contexts}."
            )
        with tf.init_scope():  # one copy for all graphs
            self._pixels = tf.Variable(self._images, trainable=False)
        super().__init__(
            BoundedTensorSpec((size, size, 1), tf.float32, 0, 1, "context"),
            num_arms,
            num_contexts,
            exposures,
            pulls,
            batch_size=batch_size,
            seed=seed,
        )

    def _draw_contexts(self, seed):
        shape = (self._size, len(self._characters))
        uniform = tf.random.stateless_uniform(shape, seed)
        chosen = tf.math.top_k(uniform, self.num_contexts)[1]
        return tf.gather(self._characters, chosen)

    def _begin(self, state, seed):
        drawing = tf.zeros((self._size,), tf.int32)
        if not self._same_drawing:
            drawing = tf.random.stateless_uniform(
                (self._size,), seed, 0, self._images.shape[1], tf.int32
            )
        return {**super()._begin(state, seed), "drawing": drawing}

    def _context(self, state):
        index = tf.stack([self._now(state, "contexts"), state["drawing"]], -1)
        # Not from the variable itself, for which XLA knows no such op.
        image = tf.gather_nd(tf.convert_to_tensor(self._pixels), index)
        return tf.cast(image, tf.float32)[..., tf.newaxis] / 255.0

    def _render(self, state):
        image = 1.0 - self._context(state).numpy()
        image = np.repeat(image.repeat(2, 1).repeat(2, 2), 3, axis=-1)
        return np.round(255 * image).astype(np.uint8)
