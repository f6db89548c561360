import importlib.util
import os

import keras
import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.sparsity.selection import find_sparse_kernels

# Pictures are no larger: pixels of a large kernel are shares of its weights.
_PIXELS = 256


class KernelBoard(keras.callbacks.Callback):
    """Shows sparse kernels in TensorBoard: weights in use and masks.

    After an epoch it writes, for each kernel, a histogram of the effective
    weights in use (`<kernel>/weights`) and a picture of the mask, inputs
    downwards and outputs to the right (`<kernel>/mask`): white is used, black
    is not, and where a kernel is larger than 256 x 256 a pixel is the share of
    its weights that are. Put it after the callback that chooses the masks.

    Args:
        log_dir: path of a folder, as that of `keras.callbacks.TensorBoard`.
        every_epochs: int, epochs between two writings; the first and the last
            one are written too.

    Raises:
        ImportError: if TensorBoard is not installed.
        TypeError: if `log_dir` is no path.
        ValueError: if `every_epochs` is no whole number of at least 1; and,
            when training starts, if the model has no sparse layer.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_sparse_rl.callbacks import KernelBoard, TopKAST
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.ones((8, 20))
    >>> callbacks = [TopKAST(0.1), KernelBoard(tempfile.mkdtemp())]
    >>> history = model.fit(x, y, callbacks=callbacks, verbose=0)
    """

    def __init__(self, log_dir, every_epochs=1):
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(
                "`log_dir` must be the path of a folder. Received: "
                f"log_dir={log_dir!r}."
            )
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError(
                "KernelBoard writes for TensorBoard, which is not installed: "
                "pip install tensorboard."
            )
        self.log_dir = os.fspath(log_dir)
        self.every_epochs = check_integer("every_epochs", every_epochs)
        self._writer = None
        self._kernels = {}

    def on_train_begin(self, logs=None):
        self._kernels = find_sparse_kernels(self.model)
        self._writer = tf.summary.create_file_writer(
            os.path.join(self.log_dir, "kernels")
        )

    def on_epoch_end(self, epoch, logs=None):
        is_last = epoch == self.params["epochs"] - 1
        if epoch % self.every_epochs and not is_last:
            return
        with self._writer.as_default(step=epoch):
            for name, kernel in self._kernels.items():
                mask = kernel.forward_mask()
                weights = kernel.weight()[mask].astype("float32")
                tf.summary.histogram(f"{name}/weights", weights)
                tf.summary.image(f"{name}/mask", _picture(mask))
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def _picture(mask):
    """The mask as one picture `(1, height, width, 1)` of numbers in [0, 1]."""
    shares = mask.reshape(-1, mask.shape[-1]).astype("float32")
    for axis in (0, 1):
        size = shares.shape[axis]
        starts = np.unique(np.linspace(0, size, _PIXELS + 1)[:-1].astype(int))
        counts = np.expand_dims(np.diff([*starts, size]), 1 - axis)
        shares = np.add.reduceat(shares, starts, axis) / counts
    return shares[None, :, :, None]
