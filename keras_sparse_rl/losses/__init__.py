"""Losses and targets as pure functions of `(batch, time, ...)` tensors."""

from keras_sparse_rl.losses.kl_to_default import kl_to_default
from keras_sparse_rl.losses.kl_to_default_loss import KLToDefault
from keras_sparse_rl.losses.marginal_policy import marginal_policy
from keras_sparse_rl.losses.transfer_gain import TransferGain
from keras_sparse_rl.losses.transfer_gain import transfer_gain
from keras_sparse_rl.losses.vtrace import VTrace
from keras_sparse_rl.losses.vtrace import vtrace
