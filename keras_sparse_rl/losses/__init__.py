"""Losses and targets as pure functions of `(batch, time, ...)` tensors."""

from keras_sparse_rl.losses.vtrace import VTrace
from keras_sparse_rl.losses.vtrace import vtrace
