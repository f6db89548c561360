"""Losses and targets as pure functions of `(batch, time, ...)` tensors."""

from keras_sparse_rl.losses.distillation_loss import Distillation
from keras_sparse_rl.losses.distillation_loss import distillation_loss
from keras_sparse_rl.losses.distillation_variant import DistillationVariant
from keras_sparse_rl.losses.kl_to_default import kl_to_default
from keras_sparse_rl.losses.kl_to_default_loss import KLToDefault
from keras_sparse_rl.losses.marginal_policy import marginal_policy
from keras_sparse_rl.losses.mix_and_match import MixAndMatch
from keras_sparse_rl.losses.mix_and_match_loss import mix_and_match_loss
from keras_sparse_rl.losses.mixture_log_prob import mixture_log_prob
from keras_sparse_rl.losses.policy_distillation import PolicyDistillation
from keras_sparse_rl.losses.policy_divergences import Gaussian
from keras_sparse_rl.losses.policy_divergences import policy_cross_entropy
from keras_sparse_rl.losses.policy_divergences import policy_entropy
from keras_sparse_rl.losses.policy_divergences import policy_kl
from keras_sparse_rl.losses.policy_divergences import policy_log_probability
from keras_sparse_rl.losses.policy_divergences import policy_steps
from keras_sparse_rl.losses.ppr_loss import ppr_loss
from keras_sparse_rl.losses.transfer_gain import TransferGain
from keras_sparse_rl.losses.transfer_gain import transfer_gain
from keras_sparse_rl.losses.vtrace import VTrace
from keras_sparse_rl.losses.vtrace import vtrace

__all__ = [
    "Distillation",
    "DistillationVariant",
    "Gaussian",
    "KLToDefault",
    "MixAndMatch",
    "PolicyDistillation",
    "TransferGain",
    "VTrace",
    "distillation_loss",
    "kl_to_default",
    "marginal_policy",
    "mix_and_match_loss",
    "mixture_log_prob",
    "policy_cross_entropy",
    "policy_entropy",
    "policy_kl",
    "policy_log_probability",
    "policy_steps",
    "ppr_loss",
    "transfer_gain",
    "vtrace",
]
