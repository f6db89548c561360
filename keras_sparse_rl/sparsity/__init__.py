"""Masks, densities, schedules, and the tools that make a model sparse."""

from keras_sparse_rl.execution.sparse_ops import load_sparse_ops
from keras_sparse_rl.kernels.densities import erk_densities
from keras_sparse_rl.kernels.densities import uniform_densities
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.kernels.masks import global_topk_masks
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.kernels.patterns import pattern_mask
from keras_sparse_rl.kernels.powerpropagation import effective_weight
from keras_sparse_rl.kernels.powerpropagation import masked_weight
from keras_sparse_rl.kernels.powerpropagation import theta_from_weight
from keras_sparse_rl.kernels.powerpropagation import weight_gradient
from keras_sparse_rl.kernels.powerpropagation import weight_gradient_factor
from keras_sparse_rl.sparsity.constant_schedule import ConstantSchedule
from keras_sparse_rl.sparsity.densify import densify
from keras_sparse_rl.sparsity.export_litert import export_litert
from keras_sparse_rl.sparsity.load_litert import load_litert
from keras_sparse_rl.sparsity.polynomial_schedule import PolynomialSchedule
from keras_sparse_rl.sparsity.prune import prune
from keras_sparse_rl.sparsity.sparsify import sparsify
from keras_sparse_rl.sparsity.sparsity_summary import sparsity_summary

__all__ = [
    "BACKWARD",
    "ConstantSchedule",
    "FORWARD",
    "PolynomialSchedule",
    "densify",
    "effective_weight",
    "erk_densities",
    "export_litert",
    "global_topk_masks",
    "keep_count",
    "load_litert",
    "load_sparse_ops",
    "masked_weight",
    "prune",
    "sparsify",
    "sparsity_summary",
    "theta_from_weight",
    "topk_mask",
    "pattern_mask",
    "uniform_densities",
    "weight_gradient",
    "weight_gradient_factor",
]
