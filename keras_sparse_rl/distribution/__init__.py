"""Data-parallel training on several machines."""

from keras_sparse_rl.distribution.multi_worker_strategy import (
    MultiWorkerStrategy,
)

__all__ = [
    "MultiWorkerStrategy",
]
