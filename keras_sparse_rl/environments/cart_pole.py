import math

import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment

GRAVITY, FORCE, SECONDS = 9.8, 10.0, 0.02
POLE_MASS, TOTAL_MASS, HALF_LENGTH = 0.1, 1.1, 0.5
POSITION_LIMIT, ANGLE_LIMIT = 2.4, math.radians(12)
TIME_LIMIT = 500
HEIGHT, WIDTH, SCALE, GROUND = 60, 100, 20, 50


class CartPole(InGraphEnvironment):
    """Gymnasium's CartPole-v1 in the graph, with or without velocities.

    See "Neuronlike adaptive elements that can solve difficult learning
    control problems" by Barto et al. 1983. Actions: 0 pushes the cart to the
    left, 1 to the right. Each step earns 1; the episode ends when the cart
    leaves +-2.4 or the pole leans more than 12 degrees, and is cut off (not
    terminated) after 500 steps. The best return is 500; acting at random
    gives about 22.

    The observation is position (m), velocity, angle (radians) and angular
    velocity. Without the velocities the task needs a memory, but only of the
    step before.

    Args:
        velocities: bool, whether velocities are seen.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import CartPole
    >>> CartPole(velocities=False, batch_size=3).reset().observation.shape
    TensorShape([3, 2])
    """

    def __init__(self, velocities=True, batch_size=1, seed=0):
        self._velocities = check_flag("velocities", velocities)
        super().__init__(
            tf.TensorSpec((4 if velocities else 2,), tf.float32, "observation"),
            BoundedTensorSpec((), tf.int32, 0, 1, "action"),
            batch_size,
            seed,
        )

    def _start(self, seed):
        return {
            "body": tf.random.stateless_uniform(
                (self.batch_size, 4), seed, -0.05, 0.05
            ),
            "time": tf.zeros((self.batch_size,), tf.int32),
        }

    def _advance(self, state, action, seed):
        position, velocity, angle, turning = tf.unstack(state["body"], axis=-1)
        time = state["time"] + 1
        force = tf.where(tf.equal(action, 1), FORCE, -FORCE)
        sine, cosine = tf.sin(angle), tf.cos(angle)
        push = force + POLE_MASS * HALF_LENGTH * turning**2 * sine
        push /= TOTAL_MASS
        turning_rate = (GRAVITY * sine - cosine * push) / (
            HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / TOTAL_MASS)
        )
        swing = POLE_MASS * HALF_LENGTH * turning_rate * cosine / TOTAL_MASS
        position += SECONDS * velocity
        velocity += SECONDS * (push - swing)
        angle += SECONDS * turning
        turning += SECONDS * turning_rate
        fallen = (tf.abs(position) > POSITION_LIMIT) | (
            tf.abs(angle) > ANGLE_LIMIT
        )
        state = {
            "body": tf.stack([position, velocity, angle, turning], axis=-1),
            "time": time,
        }
        return state, tf.ones_like(position), fallen, time >= TIME_LIMIT

    def _observe(self, state):
        body = state["body"]
        return body if self._velocities else body[:, ::2]

    def _render(self, state):
        pictures = np.full((self.batch_size, HEIGHT, WIDTH, 3), 255, np.uint8)
        pictures[:, GROUND] = 0
        body = state["body"].numpy()
        for picture, (position, _, angle, _) in zip(pictures, body):
            middle = WIDTH / 2 + SCALE * position
            columns = np.clip([middle - 6, middle + 7], 0, WIDTH).astype(int)
            picture[GROUND - 6 : GROUND, slice(*columns)] = 90
            along = np.linspace(0, 2 * HALF_LENGTH * SCALE, 60)
            rows = GROUND - 6 - along * np.cos(angle)
            columns = np.clip(middle + along * np.sin(angle), 0, WIDTH - 1)
            picture[rows.astype(int), columns.astype(int)] = (200, 80, 40)
        return pictures
