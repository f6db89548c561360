"""Losses and targets as pure functions of `(batch, time, ...)` tensors."""

from keras_sparse_rl.losses.mix_and_match import MixAndMatch
from keras_sparse_rl.losses.mix_and_match_loss import mix_and_match_loss
from keras_sparse_rl.losses.mixture_log_prob import mixture_log_prob
from keras_sparse_rl.losses.vtrace import VTrace
from keras_sparse_rl.losses.vtrace import vtrace
