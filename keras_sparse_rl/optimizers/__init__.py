"""Keras optimizers made right for exponents and masks."""

from keras_sparse_rl.optimizers.powerprop import Powerprop
from keras_sparse_rl.optimizers.powerprop_update import PowerpropUpdate

__all__ = [
    "Powerprop",
    "PowerpropUpdate",
]
