"""What KernelBoard writes, read back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import KernelBoard
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from tests.callbacks.network import compiled
from tests.callbacks.network import fit


def written(folder):
    """Dict of tag to dict of step to tensor."""
    found = {}
    for path in sorted(folder.rglob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = tensor
    return found


def test_weights_in_use_and_pictures_of_masks(tmp_path):
    model = compiled()
    fit(model, [TopKAST(0.2), KernelBoard(tmp_path, every_epochs=2)], epochs=4)
    found = written(tmp_path)
    assert set(found) == {
        f"{name}/{kind}"
        for name in ("hidden", "logits")
        for kind in ("weights", "mask")
    }
    for kernel in sparse_kernels(model):
        name, mask = kernel.layer.name, kernel.forward_mask()
        assert list(found[f"{name}/weights"]) == [0, 2, 3]
        # Rows of a histogram: left, right, count.
        histogram = found[f"{name}/weights"][3]
        weights = kernel.weight()[mask]
        assert histogram[:, 2].sum() == mask.sum()
        assert histogram[0, 0] == pytest.approx(weights.min(), rel=1e-5)
        width, height, picture = found[f"{name}/mask"][3]
        assert (int(height), int(width)) == mask.shape
        pixels = tf.image.decode_png(picture).numpy()[..., 0]
        np.testing.assert_array_equal(pixels, 255 * mask)


def test_pixels_of_a_large_kernel_are_shares(tmp_path):
    model = keras.Sequential([keras.Input((300,)), PowerpropDense(700)])
    model.compile(Powerprop("sgd"), "mse")
    mask = np.zeros((300, 700), bool)
    mask[:, :350] = True
    sparse_kernels(model)[0].assign_masks(mask, mask)
    x, y = np.ones((2, 300)), np.ones((2, 700))
    model.fit(x, y, verbose=0, callbacks=[KernelBoard(tmp_path)])
    (tag,) = (tag for tag in written(tmp_path) if tag.endswith("mask"))
    pixels = tf.image.decode_png(written(tmp_path)[tag][0][2]).numpy()
    assert pixels.shape == (256, 256, 1)
    assert (pixels[:, :128] == 255).all() and (pixels[:, 128:] == 0).all()


def test_wrong_arguments_are_answered(tmp_path):
    with pytest.raises(TypeError, match="log_dir=None"):
        KernelBoard(None)
    with pytest.raises(ValueError, match="every_epochs=0"):
        KernelBoard(tmp_path, 0)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no sparse layer"):
        plain.fit(
            np.ones((2, 3)),
            np.ones((2, 2)),
            verbose=0,
            callbacks=[KernelBoard(tmp_path)],
        )
