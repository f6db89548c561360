import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec

from keras_sparse_rl._checks import check_alphas
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_distribution import action_entropy
from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.agents.actor_critic_policy import ActorCriticPolicy
from keras_sparse_rl.agents.keras_network import KerasNetwork
from keras_sparse_rl.losses import mix_and_match_loss
from keras_sparse_rl.losses import mixture_log_prob

IMPOSSIBLE = -1e9


class PolicyMixture:
    """Several outputs of a model as policies over one action space.

    Args:
        policies: list of `SimplePolicy`, without the last.
        action_spec: one bounded TF-Agents spec.
        alphas: variable `(policies,)`.
        squash: bool, see `action_distribution`.
    """

    def __init__(self, policies, action_spec, alphas, squash=True):
        self._names = [policy.name for policy in policies] + ["policy"]
        action_spec = tensor_spec.from_spec(action_spec)
        self._action_spec = action_spec
        self._alphas = alphas
        self._squash = squash
        # One action that is a number: all probabilities fit into a table.
        self._is_table = (
            tensor_spec.is_discrete(action_spec) and action_spec.shape.rank == 0
        )
        self._places = [
            None
            if policy.actions is None
            else np.eye(num_action_outputs(action_spec), dtype=np.float32)[
                np.asarray(policy.actions)
            ]
            for policy in policies
        ] + [None]

    def acting(self, outputs):
        """The mixture, as a distribution over actions."""
        if not self._is_table:
            return Mixture(self._distributions(outputs), self._alphas)
        mixed = mixture_log_prob(
            tf.stack(self._log_probs(outputs), axis=-1), self._alphas
        )
        # The last policy alone is taken as it is, to the bit.
        last = tf.cast(outputs["policy"], tf.float32)
        logits = tf.where(self._alphas[-1] >= 1, last, mixed)
        return tfp.distributions.Categorical(
            logits, dtype=self._action_spec.dtype
        )

    def matching(self, outputs, stop_target_gradients):
        """Matching loss of each step, see `losses.mix_and_match_loss`."""
        if self._is_table:
            return mix_and_match_loss(
                tf.stack(self._log_probs(outputs), axis=-2),
                self._alphas,
                stop_target_gradients,
            )
        inner = [_before_squashing(d) for d in self._distributions(outputs)]
        targets = inner
        if stop_target_gradients:
            held = tf.nest.map_structure(tf.stop_gradient, outputs)
            targets = [_before_squashing(d) for d in self._distributions(held)]
        return tf.add_n(
            [
                self._alphas[i] * targets[i].kl_divergence(inner[j])
                for j in range(len(inner))
                for i in range(j)
            ]
        )

    def _distributions(self, outputs):
        return [
            action_distribution(outputs[name], self._action_spec, self._squash)
            for name in self._names
        ]

    def _log_probs(self, outputs):
        """Tables `(..., actions)`, one a policy."""
        tables = []
        for name, places in zip(self._names, self._places):
            table = tf.nn.log_softmax(tf.cast(outputs[name], tf.float32))
            if places is not None:
                # Minus infinity times 0 would be NaN.
                table = tf.maximum(table, IMPOSSIBLE)
                # A sum of one number and zeros: the number, to the bit.
                table = tf.tensordot(table, places, 1)
                table += IMPOSSIBLE * (1 - places.sum(0))
            tables.append(table)
        return tables


class Mixture(tfp.distributions.Distribution):
    """A mixture of distributions with one event shape.

    Its entropy is the mean of the parts', a lower bound; its mode is that of
    the last part.
    """

    def __init__(self, parts, alphas):
        self._parts, self._alphas = parts, alphas
        last = parts[-1]
        super().__init__(
            dtype=last.dtype,
            reparameterization_type=tfp.distributions.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="mixture",
        )

    def _batch_shape(self):
        return self._parts[-1].batch_shape

    def _batch_shape_tensor(self):
        return self._parts[-1].batch_shape_tensor()

    def _event_shape(self):
        return self._parts[-1].event_shape

    def _event_shape_tensor(self):
        return self._parts[-1].event_shape_tensor()

    def _log_prob(self, value):
        each = tf.stack([d.log_prob(value) for d in self._parts], axis=-1)
        return mixture_log_prob(each, self._alphas)

    def _sample_n(self, n, seed=None):
        # The last part draws with the seed itself, as if it were alone.
        fold = tf.random.experimental.stateless_fold_in
        seed = tfp.random.sanitize_seed(seed)
        batch = tf.concat([[n], self.batch_shape_tensor()], axis=0)
        bounds = tf.cumsum(self._alphas)[:-1]
        chosen = tf.searchsorted(
            bounds,
            tf.reshape(tf.random.stateless_uniform(batch, fold(seed, 0)), [-1]),
            side="right",
        )
        chosen = tf.reshape(chosen, batch)
        chosen = tf.ensure_shape(chosen, [None, *self.batch_shape])
        drawn = self._parts[-1].sample(n, seed=seed)
        for number, part in enumerate(self._parts[:-1]):
            is_chosen = tf.equal(chosen, number)
            for _ in range(drawn.shape.rank - chosen.shape.rank):
                is_chosen = is_chosen[..., tf.newaxis]
            other = part.sample(n, seed=fold(seed, number + 1))
            drawn = tf.where(is_chosen, other, drawn)
        return drawn

    def _mode(self):
        return self._parts[-1].mode()

    def _entropy(self):
        each = tf.stack([action_entropy(d) for d in self._parts], axis=-1)
        return tf.reduce_sum(self._alphas * each, axis=-1)


class MixturePolicy(ActorCriticPolicy):
    """Collects by a mixture of the outputs of a model.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs.
        action_spec: bounded TF-Agents spec.
        model: `keras.Model` of the network contract.
        mixture: `PolicyMixture`.
        alphas: the variable of `mixture`, which a checkpoint holds.
        seed: int.
    """

    def __init__(
        self, time_step_spec, action_spec, model, mixture, alphas, seed=0
    ):
        network = KerasNetwork(model, time_step_spec.observation)
        super().__init__(
            time_step_spec, action_spec, network, collect=True, seed=seed
        )
        self._mixture = mixture
        self._alphas = alphas

    def _act(self, time_step, policy_state):
        outputs, state = super()._act(time_step, policy_state)
        return self._mixture.acting(outputs), state


def check_policies(policies, action_spec, outputs):
    """Raises unless a model has the outputs that policies need."""
    if tf.nest.is_nested(action_spec):
        raise ValueError(
            "A mixture of policies needs one action, number or vector. "
            f"Received the nest action_spec={action_spec}. Join its parts to "
            "one action in the environment."
        )
    if not policies:
        raise ValueError(
            "`policies` must list at least one policy that is simpler than "
            'the last, which is the model\'s output "policy". Received: '
            f"policies={policies!r}."
        )
    size = num_action_outputs(action_spec)
    names = ["policy", "value"]
    for policy in policies:
        if policy.name not in outputs or policy.name in names:
            raise ValueError(
                "Each of `policies` must be named like an output of the model "
                "of its own. Received: "
                f"name={policy.name!r}; the model has {list(outputs)}. Build "
                "it by keras_sparse_rl.agents.mix_and_match_model(...)."
            )
        names.append(policy.name)
        found = outputs[policy.name].shape[-1]
        if policy.actions is None:
            if found != size:
                raise ValueError(
                    f"The model's output {policy.name!r} has {found} units, "
                    f"where the actions {action_spec} need {size}. If the "
                    "policy chooses from fewer actions, say from which: "
                    f"SimplePolicy({policy.name!r}, actions=[...])."
                )
            continue
        _check_actions(policy, action_spec, size, found)


def _check_actions(policy, action_spec, size, found):
    if not tensor_spec.is_discrete(action_spec) or tuple(action_spec.shape):
        raise ValueError(
            "`actions` of a simpler policy are for one discrete action. "
            f"Received: {policy} for action_spec={action_spec}."
        )
    actions = np.asarray(policy.actions)
    if (
        actions.ndim != 1
        or actions.dtype.kind not in "iu"
        or len(np.unique(actions)) != len(actions)
        or not len(actions)
        or actions.min() < 0
        or actions.max() >= size
        or len(actions) != found
    ):
        raise ValueError(
            f"`actions` of the policy {policy.name!r} must be different whole "
            f"numbers from 0 to {size - 1}, one for each of the {found} units "
            f"of the model's output. Received: {policy.actions!r}."
        )


def check_shares(alphas, number):
    """`check_alphas` for the shares that an agent keeps in a variable."""
    return np.asarray(check_alphas("alphas", list(alphas), number), "float32")


def _before_squashing(distribution):
    return getattr(distribution, "input_distribution", distribution)
