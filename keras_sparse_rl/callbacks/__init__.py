"""Keras callbacks: sparse training, and losses that help each other."""

from keras_sparse_rl.callbacks.bayes_regret import BayesRegret
from keras_sparse_rl.callbacks.dense_gradients import DenseGradients
from keras_sparse_rl.callbacks.drop_and_grow import DropAndGrow
from keras_sparse_rl.callbacks.gradient_cosine import GradientCosine
from keras_sparse_rl.callbacks.kernel_board import KernelBoard
from keras_sparse_rl.callbacks.magnitude_pruning import MagnitudePruning
from keras_sparse_rl.callbacks.rigl import RigL
from keras_sparse_rl.callbacks.sparse_evolution import SET
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.callbacks.static_sparsity import StaticSparsity
from keras_sparse_rl.callbacks.top_kast import TopKAST
from keras_sparse_rl.callbacks.train_step_callback import TrainStepCallback

__all__ = [
    "BayesRegret",
    "DenseGradients",
    "DropAndGrow",
    "GradientCosine",
    "KernelBoard",
    "MagnitudePruning",
    "RigL",
    "SET",
    "SparsityCallback",
    "StaticSparsity",
    "TopKAST",
    "TrainStepCallback",
]
