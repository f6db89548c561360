"""Sparse training, memory and reinforcement learning for Keras 3."""

from keras_sparse_rl import callbacks
from keras_sparse_rl import layers
from keras_sparse_rl import losses
from keras_sparse_rl import optimizers
from keras_sparse_rl import sparsity
from keras_sparse_rl.version import __version__
