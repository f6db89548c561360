"""Sparse training, memory and reinforcement learning for Keras 3.

`agents` and `environments` need the extra `[agents]` and TF-Agents; they are
imported at first use, so that everything else does without.
"""

import importlib

from keras_sparse_rl import callbacks
from keras_sparse_rl import continual
from keras_sparse_rl import distribution
from keras_sparse_rl import gradients
from keras_sparse_rl import kernels
from keras_sparse_rl import layers
from keras_sparse_rl import losses
from keras_sparse_rl import meta
from keras_sparse_rl import optimizers
from keras_sparse_rl import sparsity
from keras_sparse_rl.version import __version__

_AT_FIRST_USE = ("agents", "environments")


def __getattr__(name):
    if name in _AT_FIRST_USE:
        return importlib.import_module(f"keras_sparse_rl.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_AT_FIRST_USE])
