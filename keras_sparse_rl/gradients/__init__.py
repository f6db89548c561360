"""Gradients of several losses: how alike they are, and what to make of it."""

from keras_sparse_rl.gradients.gate_gradients import GatedGradients
from keras_sparse_rl.gradients.gate_gradients import gate_gradients
from keras_sparse_rl.gradients.gradient_cosine import gradient_cosine
from keras_sparse_rl.gradients.gradient_gate import GradientGate

__all__ = [
    "GatedGradients",
    "GradientGate",
    "gate_gradients",
    "gradient_cosine",
]
