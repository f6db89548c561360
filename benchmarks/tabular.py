"""Exact expected updates of policies in small Markov decision processes.

Whole distributions over trajectories by linear solves, in float64: what the
sampled updates of `losses.distillation_loss` must be on average.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.losses import distillation_loss


@dataclasses.dataclass(frozen=True)
class MDP:
    """A process whose last column is the end of the episode.

    `transition` and `reward` `(states, actions, states + 1)`, `start`
    `(states,)`.
    """

    transition: tf.Tensor
    reward: tf.Tensor
    start: tf.Tensor

    @property
    def shape(self):
        return tuple(self.transition.shape[:2])


def random_mdp(seed, states=5, actions=3, end_probability=0.1):
    """Dirichlet transitions, normal rewards, one random start."""
    generator = np.random.default_rng(seed)
    shape = (states, actions)
    transition = (1 - end_probability) * generator.dirichlet(
        np.ones(states), shape
    )
    end = np.full((*shape, 1), end_probability)
    tables = (
        np.concatenate([transition, end], axis=-1),
        generator.normal(size=(*shape, states + 1)),
        generator.dirichlet(np.ones(states)),
    )
    return MDP(*map(tf.constant, tables))


def occupancy(mdp, policy):
    """Expected visits of each state in an episode."""
    moves = tf.einsum("sa,sat->ts", policy, mdp.transition[..., :-1])
    system = tf.eye(mdp.shape[0], dtype=policy.dtype) - moves
    return tf.linalg.solve(system, mdp.start[:, tf.newaxis])[:, 0]


def action_values(mdp, policy, reward):
    """Undiscounted returns `(states, actions)` of `reward` `(s, a, s')`."""
    expected = tf.einsum("sat,sat->sa", mdp.transition, reward)
    transition = mdp.transition[..., :-1]
    moves = tf.einsum("sa,sat->st", policy, transition)
    system = tf.eye(mdp.shape[0], dtype=policy.dtype) - moves
    value = tf.linalg.solve(
        system, tf.einsum("sa,sa->s", policy, expected)[:, tf.newaxis]
    )
    return expected + tf.einsum("sat,t->sa", transition, value[:, 0])


def state_values(mdp, policy):
    """Undiscounted returns `(states,)` of the environment's reward."""
    values = action_values(mdp, policy, mdp.reward)
    return tf.einsum("sa,sa->s", policy, values)


def distilled(mdp, variant, logits, teacher_logits, student_value=None):
    """`distillation_loss` on every transition.

    Returns:
        Tuple of loss `(states,)`, pseudo-reward and advantage `(s, a, s')`,
        None where the variant has none.
    """
    states, actions = mdp.shape
    s, a, t = np.indices((states, actions, states + 1)).reshape(3, -1)
    ends = t == states
    teacher_value = state_values(mdp, tf.nn.softmax(teacher_logits))
    if student_value is None:
        student_value = state_values(mdp, tf.nn.softmax(logits))

    def steps(x):
        return tf.gather(x, np.stack([s, np.where(ends, s, t)], axis=1))

    found = distillation_loss(
        variant,
        steps(logits),
        steps(teacher_logits),
        a_tm1=a[:, np.newaxis],
        discount_t=1.0 - ends[:, np.newaxis],
        r_t=tf.reshape(mdp.reward, (-1, 1)),
        student_value=steps(tf.stop_gradient(student_value)),
        teacher_value=steps(teacher_value),
    )

    def table(x):
        return (
            None if x is None else tf.reshape(x, (states, actions, states + 1))
        )

    loss, reward, advantage = map(table, found)
    # Every transition out of a state has the same loss.
    return None if loss is None else loss[:, 0, 0], reward, advantage


def expected_update(mdp, variant, theta, teacher_logits, features=None):
    """The direction that a variant minimizes along, exact.

    Args:
        mdp: `MDP`.
        variant: `DistillationVariant`, the name of one, or None for
            reinforcement learning alone.
        theta: float64 tensor `(states, actions)` of logits; with `features`,
            `(parameters,)`.
        teacher_logits: float64 tensor `(states, actions)`.
        features: float64 `(parameters, states, actions)`, or None.

    Returns:
        Tensor like `theta`: `E_q[sum_t -grad log pi_theta(a_t) R_t + grad
        loss_t]`, differentiable in `theta`.
    """
    if isinstance(variant, str):
        variant = DistillationVariant.named(variant)

    def logits_of(x):
        if features is None:
            return x
        return tf.tensordot(x, tf.constant(features), 1)

    logits = logits_of(theta)
    student = tf.nn.softmax(logits)
    teacher_share = 0.0 if variant is None else variant.teacher_share
    behaviour = (
        teacher_share * tf.nn.softmax(teacher_logits)
        + (1 - teacher_share) * student
    )
    visits = occupancy(mdp, behaviour)
    reward = tf.zeros_like(mdp.reward)
    if variant is None or variant.environment_reward:
        reward += mdp.reward
    # What is differentiated once more for the update itself.
    moved = tf.identity(theta)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        moved_logits = logits_of(moved)
        total = tf.zeros((), theta.dtype)
        advantage = None
        if variant is not None:
            loss, _, _ = distilled(mdp, variant, moved_logits, teacher_logits)
            _, pseudo, advantage = distilled(
                mdp, variant, logits, teacher_logits
            )
            if loss is not None:
                total += tf.tensordot(visits, loss, 1)
            if pseudo is not None:
                reward += pseudo
        if advantage is None:
            weights = action_values(mdp, student, reward)
        else:
            weights = tf.einsum("sat,sat->sa", mdp.transition, advantage)
        chosen = tf.nn.log_softmax(moved_logits) * behaviour
        total -= tf.einsum("s,sa,sa->", visits, chosen, weights)
    return tape.gradient(total, moved)


def asymmetry(variant, features=None):
    """A function from an MDP, `theta` and teacher to how curled a field is.

    Args:
        variant: as for `expected_update`.
        features: as for `expected_update`.

    Returns:
        Function of `(mdp, theta, teacher_logits)`, compiled once for all MDPs
        of a size; returns the number `||J - J'|| / ||J + J'||` of the update's
        Jacobian `J`, which is 0 for a gradient field.
    """

    @tf.function
    def compiled(transition, reward, start, theta, teacher_logits):
        mdp = MDP(transition, reward, start)
        with tf.GradientTape() as tape:
            tape.watch(theta)
            update = tf.reshape(
                expected_update(mdp, variant, theta, teacher_logits, features),
                [-1],
            )
        jacobian = tape.jacobian(update, theta)
        jacobian = tf.reshape(jacobian, (update.shape[0], -1))
        turned = tf.transpose(jacobian)
        return tf.norm(jacobian - turned) / tf.norm(jacobian + turned)

    def measure(mdp, theta, teacher_logits):
        tables = (mdp.transition, mdp.reward, mdp.start)
        return float(compiled(*tables, theta, teacher_logits))

    return measure
