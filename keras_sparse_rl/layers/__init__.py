"""Keras layers: sparse kernels, and memories for agents."""

from keras_sparse_rl.execution.sparse_values import SparseValues
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.sparse_kernel import SparseKernel
from keras_sparse_rl.layers.di_engine_gtrxl import DIEngineGTrXL
from keras_sparse_rl.layers.episodic_lstm import EpisodicLSTM
from keras_sparse_rl.layers.episodic_memory import EpisodicMemory
from keras_sparse_rl.layers.gate import Gate
from keras_sparse_rl.layers.gru_gate import GRUGate
from keras_sparse_rl.layers.gtrxl import GTrXL
from keras_sparse_rl.layers.highway_gate import HighwayGate
from keras_sparse_rl.layers.input_gate import InputGate
from keras_sparse_rl.layers.neighbours import Neighbours
from keras_sparse_rl.layers.output_gate import OutputGate
from keras_sparse_rl.layers.over_time import OverTime
from keras_sparse_rl.layers.powerprop_attention import (
    PowerpropGroupQueryAttention,
)
from keras_sparse_rl.layers.powerprop_attention import (
    PowerpropMultiHeadAttention,
)
from keras_sparse_rl.layers.powerprop_convolutions import PowerpropConv1D
from keras_sparse_rl.layers.powerprop_convolutions import (
    PowerpropConv1DTranspose,
)
from keras_sparse_rl.layers.powerprop_convolutions import PowerpropConv2D
from keras_sparse_rl.layers.powerprop_convolutions import (
    PowerpropConv2DTranspose,
)
from keras_sparse_rl.layers.powerprop_convolutions import PowerpropConv3D
from keras_sparse_rl.layers.powerprop_convolutions import (
    PowerpropConv3DTranspose,
)
from keras_sparse_rl.layers.powerprop_dense import PowerpropDense
from keras_sparse_rl.layers.powerprop_dense import PowerpropEinsumDense
from keras_sparse_rl.layers.powerprop_dense import PowerpropEmbedding
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropConvLSTM1D
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropConvLSTM2D
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropConvLSTM3D
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropGRU
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropLSTM
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropRNN
from keras_sparse_rl.layers.powerprop_recurrent import PowerpropSimpleRNN
from keras_sparse_rl.layers.powerprop_separable_convolutions import (
    PowerpropDepthwiseConv1D,
)
from keras_sparse_rl.layers.powerprop_separable_convolutions import (
    PowerpropDepthwiseConv2D,
)
from keras_sparse_rl.layers.powerprop_separable_convolutions import (
    PowerpropSeparableConv1D,
)
from keras_sparse_rl.layers.powerprop_separable_convolutions import (
    PowerpropSeparableConv2D,
)
from keras_sparse_rl.layers.ppr_core import PPRCore
from keras_sparse_rl.layers.relative_multi_head_attention import (
    RelativeMultiHeadAttention,
)
from keras_sparse_rl.layers.resettable_rnn import ResettableRNN
from keras_sparse_rl.layers.sigmoid_tanh_gate import SigmoidTanhGate
from keras_sparse_rl.layers.sparse_dense import SparseDense

__all__ = [
    "DIEngineGTrXL",
    "EpisodicLSTM",
    "EpisodicMemory",
    "GRUGate",
    "GTrXL",
    "Gate",
    "HighwayGate",
    "InputGate",
    "Neighbours",
    "OutputGate",
    "OverTime",
    "PPRCore",
    "PowerpropConv1D",
    "PowerpropConv1DTranspose",
    "PowerpropConv2D",
    "PowerpropConv2DTranspose",
    "PowerpropConv3D",
    "PowerpropConv3DTranspose",
    "PowerpropConvLSTM1D",
    "PowerpropConvLSTM2D",
    "PowerpropConvLSTM3D",
    "PowerpropDense",
    "PowerpropDepthwiseConv1D",
    "PowerpropDepthwiseConv2D",
    "PowerpropEinsumDense",
    "PowerpropEmbedding",
    "PowerpropGRU",
    "PowerpropGroupQueryAttention",
    "PowerpropLSTM",
    "PowerpropLayer",
    "PowerpropMultiHeadAttention",
    "PowerpropRNN",
    "PowerpropSeparableConv1D",
    "PowerpropSeparableConv2D",
    "PowerpropSimpleRNN",
    "RelativeMultiHeadAttention",
    "ResettableRNN",
    "SigmoidTanhGate",
    "SparseDense",
    "SparseKernel",
    "SparseValues",
    "sparse_kernels",
]
