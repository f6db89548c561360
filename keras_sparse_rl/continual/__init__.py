"""Tasks learned one after another by one network that forgets none."""

from keras_sparse_rl.continual.efficient_packnet import EfficientPackNet
from keras_sparse_rl.continual.mask_search import packnet_mask
from keras_sparse_rl.continual.mask_search import sparsest
from keras_sparse_rl.continual.packnet import PackNet
from keras_sparse_rl.continual.task_callback import TaskCallback
from keras_sparse_rl.continual.task_model import TaskModel

__all__ = [
    "EfficientPackNet",
    "PackNet",
    "TaskCallback",
    "TaskModel",
    "packnet_mask",
    "sparsest",
]
