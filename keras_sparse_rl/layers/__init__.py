"""Keras layers whose kernels can be trained sparse."""

from keras_sparse_rl.layers.powerprop_conv import PowerpropConv
from keras_sparse_rl.layers.powerprop_conv1d import PowerpropConv1D
from keras_sparse_rl.layers.powerprop_conv2d import PowerpropConv2D
from keras_sparse_rl.layers.powerprop_dense import PowerpropDense
from keras_sparse_rl.layers.powerprop_depthwise_conv2d import (
    PowerpropDepthwiseConv2D,
)
from keras_sparse_rl.layers.powerprop_einsum_dense import PowerpropEinsumDense
from keras_sparse_rl.layers.powerprop_embedding import PowerpropEmbedding
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer
from keras_sparse_rl.layers.powerprop_spatial import PowerpropSpatial
from keras_sparse_rl.layers.sparse_kernel import SparseKernel
from keras_sparse_rl.layers.sparse_kernel import sparse_kernels
