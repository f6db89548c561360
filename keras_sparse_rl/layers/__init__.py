"""Keras layers: sparse kernels, and memories for agents."""

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
from keras_sparse_rl.layers.powerprop_conv import PowerpropConv
from keras_sparse_rl.layers.powerprop_conv1d import PowerpropConv1D
from keras_sparse_rl.layers.powerprop_conv2d import PowerpropConv2D
from keras_sparse_rl.layers.powerprop_dense import PowerpropDense
from keras_sparse_rl.layers.powerprop_depthwise_conv2d import (
    PowerpropDepthwiseConv2D,
)
from keras_sparse_rl.layers.powerprop_einsum_dense import PowerpropEinsumDense
from keras_sparse_rl.layers.powerprop_embedding import PowerpropEmbedding
from keras_sparse_rl.layers.powerprop_gru import PowerpropGRU
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer
from keras_sparse_rl.layers.powerprop_lstm import PowerpropLSTM
from keras_sparse_rl.layers.powerprop_multi_head_attention import (
    PowerpropMultiHeadAttention,
)
from keras_sparse_rl.layers.powerprop_rnn import PowerpropRNN
from keras_sparse_rl.layers.powerprop_simple_rnn import PowerpropSimpleRNN
from keras_sparse_rl.layers.powerprop_spatial import PowerpropSpatial
from keras_sparse_rl.layers.ppr_core import PPRCore
from keras_sparse_rl.layers.relative_multi_head_attention import (
    RelativeMultiHeadAttention,
)
from keras_sparse_rl.layers.resettable_rnn import ResettableRNN
from keras_sparse_rl.layers.sigmoid_tanh_gate import SigmoidTanhGate
from keras_sparse_rl.layers.sparse_dense import SparseDense
from keras_sparse_rl.layers.sparse_kernel import SparseKernel
from keras_sparse_rl.layers.sparse_kernel import sparse_kernels
from keras_sparse_rl.layers.sparse_values import SparseValues
