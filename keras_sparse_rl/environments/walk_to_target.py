import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment

SIDE, DOOR = 4.0, 0.6  # of the square, half width of a door
SWING, STRIDE, TURN = 0.5, 0.2, 0.4
REACHED = 0.4
TARGETS = np.array([(1, 1), (1, 3), (3, 1), (3, 3)], np.float32)
HELD_OUT = np.array([(0.5, 2.5), (3.5, 1.5)], np.float32)
PIXELS = 60


class WalkToTarget(InGraphEnvironment):
    """A body on two legs walks through four rooms to one of several targets.

    Continuous actions, after the walking tasks of "Information asymmetry in
    KL-regularized RL" by Galashov et al. 2019
    (https://arxiv.org/abs/1905.01240), small enough for one core. Nothing
    moves the body but its legs: a leg that swings while its foot is pressed to
    the ground pushes the body the other way. To walk, a leg swings back pressed
    and forward lifted, again and again; legs that act differently turn the
    body. Swinging and pressing at random leads nowhere. How to walk can be
    seen from the body alone (`"proprioception"`), where to from the rest.

    Actions `(4,)` in [-1, 1]: swing of the left and right leg (half of a
    leg's way a step), and how far each foot is lifted (-1) or pressed (1).
    Rooms of 2 x 2 metres with doors of 1.2. Each episode starts in a random
    place with a random heading and target; coming within 0.4 of it pays 1 and
    ends the episode, which is cut off (not terminated) after `time_limit`
    steps. A metre closer to the target pays `progress_reward`.

    The observation is a dict: `"proprioception"` `(6,)`: position of each leg
    in [-1, 1], its last swing, and whether a wall stopped the body in x and y;
    `"target"` `(3,)`: forward and left part of the way to the target in metres,
    and its length; `"position"` `(4,)`: place, cosine and sine of the heading.

    The best return is 1 (without `progress_reward`). Walking straight at the
    target, against walls too, gives 0.89, acting at random 0.08.

    Args:
        held_out: bool, whether the two further targets are played instead of
            the four in the rooms' middles.
        progress_reward: float.
        time_limit: int.
        batch_size: int, copies of the environment.
        seed: int.

    Attributes:
        targets: float array `(targets, 2)`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import WalkToTarget
    >>> environment = WalkToTarget(batch_size=2)
    >>> environment.reset().observation["proprioception"].shape
    TensorShape([2, 6])
    """

    def __init__(
        self,
        held_out=False,
        progress_reward=0.0,
        time_limit=150,
        batch_size=1,
        seed=0,
    ):
        self.targets = HELD_OUT if check_flag("held_out", held_out) else TARGETS
        self._progress_reward = check_non_negative(
            "progress_reward", progress_reward
        )
        self._time_limit = check_integer("time_limit", time_limit)
        super().__init__(
            {
                "proprioception": BoundedTensorSpec((6,), tf.float32, -1, 1),
                "target": BoundedTensorSpec((3,), tf.float32, -6, 6),
                "position": BoundedTensorSpec((4,), tf.float32, -1, SIDE),
            },
            BoundedTensorSpec((4,), tf.float32, -1, 1, "action"),
            batch_size,
            seed,
        )

    def _start(self, seed):
        uniform = tf.random.stateless_uniform((6, self.batch_size), seed)
        number = tf.cast(uniform[0] * len(self.targets), tf.int32)
        return {
            "place": tf.transpose(0.2 + (SIDE - 0.4) * uniform[1:3]),
            "heading": 2 * np.pi * uniform[3],
            "legs": tf.transpose(2 * uniform[4:] - 1),
            "swing": tf.zeros((self.batch_size, 2)),
            "stopped": tf.zeros((self.batch_size, 2)),
            "target": tf.gather(self.targets, number),
            "time": tf.zeros((self.batch_size,), tf.int32),
        }

    def _advance(self, state, action, seed):
        action = tf.clip_by_value(tf.cast(action, tf.float32), -1.0, 1.0)
        legs = tf.clip_by_value(
            state["legs"] + SWING * action[:, :2], -1.0, 1.0
        )
        swing = legs - state["legs"]
        pressed = (1 + action[:, 2:]) / 2
        push = -swing * pressed
        forward = STRIDE * tf.reduce_sum(push, axis=-1)
        heading = state["heading"] + TURN * (push[:, 1] - push[:, 0])
        way = tf.stack([tf.cos(heading), tf.sin(heading)], axis=-1)
        place, stopped = _walk(state["place"], forward[:, tf.newaxis] * way)
        before = tf.norm(state["target"] - state["place"], axis=-1)
        after = tf.norm(state["target"] - place, axis=-1)
        reached = after < REACHED
        reward = tf.cast(reached, tf.float32)
        reward += self._progress_reward * (before - after)
        time = state["time"] + 1
        state = {
            "place": place,
            "heading": heading,
            "legs": legs,
            "swing": swing,
            "stopped": stopped,
            "target": state["target"],
            "time": time,
        }
        return state, reward, reached, ~reached & (time >= self._time_limit)

    def _observe(self, state):
        cosine, sine = tf.cos(state["heading"]), tf.sin(state["heading"])
        x, y = tf.unstack(state["target"] - state["place"], axis=-1)
        distance = tf.sqrt(x**2 + y**2)
        return {
            "proprioception": tf.concat(
                [state["legs"], state["swing"], state["stopped"]], axis=-1
            ),
            "target": tf.stack(
                [cosine * x + sine * y, cosine * y - sine * x, distance],
                axis=-1,
            ),
            "position": tf.concat(
                [state["place"], cosine[:, tf.newaxis], sine[:, tf.newaxis]],
                axis=-1,
            ),
        }

    def _render(self, state):
        pictures = np.full((self.batch_size, PIXELS, PIXELS, 3), 230, np.uint8)
        grid = (np.arange(PIXELS) + 0.5) * SIDE / PIXELS
        closed = np.abs(grid % (SIDE / 2) - SIDE / 4) > DOOR
        middle = slice(PIXELS // 2 - 1, PIXELS // 2 + 1)
        pictures[:, middle, closed] = 40
        pictures[:, closed, middle] = 40
        for key, colour, radius in (
            ("target", (60, 170, 80), REACHED),
            ("place", (30, 90, 200), 0.15),
        ):
            x, y = np.moveaxis(state[key].numpy(), -1, 0)[..., None, None]
            near = (grid[:, None] - y) ** 2 + (grid - x) ** 2 < radius**2
            pictures[near] = colour
        return pictures


def _walk(place, step):
    """Where a step leads, and which of x and y a wall stopped.

    First x, then y; a door is open to those beside the middle of a room.
    """
    stopped = []
    for axis in (0, 1):
        old = place[:, axis]
        new = old + step[:, axis]
        across = place[:, 1 - axis]
        at_door = tf.abs(across % (SIDE / 2) - SIDE / 4) < DOOR
        through = tf.not_equal(old < SIDE / 2, new < SIDE / 2)
        outside = (new < 0) | (new > SIDE)
        stop = outside | (through & ~at_door)
        stopped.append(tf.cast(stop, tf.float32))
        moved = tf.where(stop, old, new)
        parts = [moved, across] if axis == 0 else [across, moved]
        place = tf.stack(parts, axis=-1)
    return place, tf.stack(stopped, axis=-1)
