"""Losses and targets as pure functions of `(batch, time, ...)` tensors."""

from keras_sparse_rl.losses.ppr_loss import ppr_loss
from keras_sparse_rl.losses.vtrace import VTrace
from keras_sparse_rl.losses.vtrace import vtrace
