"""Kernels: theta, mask and exponent, and the mathematics under them."""

from keras_sparse_rl.kernels.kernel import Kernel
from keras_sparse_rl.kernels.kernel import effective_value
from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.sparse_kernel import SparseKernel

__all__ = [
    "Kernel",
    "SparseKernel",
    "effective_value",
    "kernel_of",
    "sparse_kernels",
]
