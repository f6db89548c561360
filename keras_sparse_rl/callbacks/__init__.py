"""Keras callbacks that train models sparse."""

from keras_sparse_rl.callbacks.magnitude_pruning import MagnitudePruning
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.callbacks.top_kast import TopKAST
