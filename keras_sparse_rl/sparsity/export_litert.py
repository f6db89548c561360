import gzip
import os
import pathlib
import tempfile
import warnings

import keras
import tensorflow as tf

from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.sparsity.litert_blocks import block_density
from keras_sparse_rl.sparsity.litert_blocks import foretold_execution
from keras_sparse_rl.sparsity.litert_blocks import is_used
from keras_sparse_rl.sparsity.litert_blocks import leaves_inputs_out
from keras_sparse_rl.sparsity.model_checks import check_model
from keras_sparse_rl.sparsity.plain_copy import plain_copy


def export_litert(model, path, print_fn=print):
    """Writes a model for LiteRT, its weights sparse, and says what will run so.

    Sparse layers of a copy become plain ones (`densify`), and it goes through
    Keras' `export` to TensorFlow's converter, which stores weights of which
    at least 30 % are 0 sparse. Recurrent layers are unrolled, so the file
    grows with the steps; mixed precision becomes float32. LiteRT computes
    with sparse weights where they lie in blocks of four inputs of one output
    (`block_size=4` in `TopKAST`, `MagnitudePruning`, `prune` and the others);
    elsewhere it unpacks them when it loads the file, and the layer is small
    but not faster. Unstructured weights count as blocks from about 97 % zeros
    on. Run the file with `load_litert`.

    Args:
        model: Keras model, built, with sparse layers or plain. It stays as it
            is. A model that is sparse, recurrent or of half precision must be
            Sequential, functional, or one that its `get_config` can copy.
        path: path of the file, ending in `.tflite`. Folders on the way are
            made.
        print_fn: function that takes the report as a string; None prints
            nothing.

    Returns:
        Dict with `"path"`; `"size"` and `"gzip_size"`, bytes of the file as it
        is and packed; and `"layers"`, a list of dicts for the layers with a
        kernel: `name`, `shape`, `density` and `block_density` (shares of
        weights, and of blocks of four, that are not all 0) and `runs`:
        `"sparse"`, `"unpacked"` (stored sparse, computed dense) or `"dense"`.
        `runs` is foretold by the converter's rule; a layer that is neither
        dense nor a convolution is not listed.

    Raises:
        TypeError: if `path` is no path, or `model` no Keras model, or one that
            would have to be copied and cannot be.
        ValueError: if `path` does not end in `.tflite`, the model has no
            weights yet, or it loops over sequences of open length. What else
            LiteRT cannot compute TensorFlow's converter names itself.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import export_litert, prune
    >>> model = keras.Sequential([keras.Input((64,)), PowerpropDense(32)])
    >>> _ = prune(model, density=0.1, block_size=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/model.tflite"
    ...     report = export_litert(model, path, print_fn=None)
    >>> report["layers"][0]["runs"], report["size"] < 64 * 32 * 4
    ('sparse', True)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            "`path` must be the path of a file, such as 'model.tflite'. "
            f"Received: path={path!r}."
        )
    path = pathlib.Path(path)
    if path.suffix != ".tflite":
        raise ValueError(
            "`path` must end in '.tflite', the name LiteRT's files go by. "
            f"Received: path={str(path)!r}."
        )
    if isinstance(model, keras.layers.Layer) and not isinstance(
        model, keras.Model
    ):
        raise TypeError(
            "`model` must be a Keras model, which has inputs. Received: layer "
            f"'{model.name}'. Put it into keras.Sequential([keras.Input(...), "
            "layer])."
        )
    check_model(model)
    plain = plain_copy(model)
    content, is_stored_sparse = _converted(plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    rows = [
        _row(layer, is_stored_sparse)
        for layer in layers_inside(plain)
        if _is_listed(layer)
    ]
    report = {
        "path": str(path),
        "size": len(content),
        "gzip_size": len(gzip.compress(content)),
        "layers": rows,
    }
    if print_fn is not None:
        print_fn(_text(report))
    return report


def _converted(model):
    """The bytes of a plain model's file, and whether weights are sparse."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        content = converter.convert()
        if not _leaves_inputs_out(content):
            return content, True
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        return converter.convert(), False


def _leaves_inputs_out(content):
    with warnings.catch_warnings():
        # It reads the file alone: no need for the package that runs it.
        warnings.filterwarnings("ignore", message=".*Interpreter")
        return leaves_inputs_out(tf.lite.Interpreter(model_content=content))


def _is_listed(layer):
    kinds = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
    return layer.built and isinstance(layer, kinds)


def _row(layer, is_stored_sparse):
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    is_product = isinstance(layer, keras.layers.Dense)
    runs = foretold_execution(kernel, is_product)
    return {
        "name": layer.name,
        "shape": kernel.shape,
        "density": float(is_used(kernel).mean()),
        "block_density": block_density(kernel),
        "runs": runs if is_stored_sparse else "dense",
    }


def _text(report):
    lines = [
        f"{report['path']}: {report['size']:,} bytes, "
        f"{report['gzip_size']:,} packed with gzip"
    ]
    for row in report["layers"]:
        shape = "x".join(map(str, row["shape"]))
        lines.append(
            f"  {row['name']} {shape}: {row['density']:.2%} of the weights, "
            f"{row['block_density']:.2%} of the blocks; {row['runs']}"
        )
    return "\n".join(lines)
