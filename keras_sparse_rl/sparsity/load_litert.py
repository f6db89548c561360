import importlib
import pathlib

import numpy as np

from keras_sparse_rl._checks import check_integer


def load_litert(path, num_threads=1):
    """Loads a file of `export_litert` into LiteRT's interpreter.

    Args:
        path: path of a `.tflite` file.
        num_threads: int, threads of the interpreter, at least 1.

    Returns:
        Function of an array `(batch, ...)`, or of a dict by the names of the
        file's inputs, to an array, or a dict by the names of its outputs if
        there are several. The batch may differ from call to call.

    Raises:
        ImportError: if the package `ai-edge-litert` is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if `num_threads` is no whole number of at least 1; and,
            when called, for other inputs than the file has.

    Example:

    >>> from keras_sparse_rl.sparsity import load_litert
    >>> run = load_litert("model.tflite")  # doctest: +SKIP
    >>> run(images).shape  # doctest: +SKIP
    (1, 10)
    """
    try:  # only now: the package is an extra
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise ImportError(
            "LiteRT's interpreter is in a package of its own. Install it: "
            "pip install ai-edge-litert  (the extra [litert] of "
            "keras_sparse_rl). Files are exported without it."
        ) from error
    check_integer("num_threads", num_threads)
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(
            "`path` must be a file that export_litert(model, path) has "
            f"written. Received: path={str(path)!r}, where there is none."
        )
    interpreter = litert.Interpreter(str(path), num_threads=num_threads)
    runner = interpreter.get_signature_runner()
    dtypes = {n: d["dtype"] for n, d in runner.get_input_details().items()}

    def run(inputs):
        if not isinstance(inputs, dict) and len(dtypes) == 1:
            inputs = dict.fromkeys(dtypes, inputs)
        if not isinstance(inputs, dict) or set(inputs) != set(dtypes):
            raise ValueError(
                f"{path} has the inputs {sorted(dtypes)}. Give a dict of "
                f"these names to arrays. Received: {type(inputs).__name__}"
                f"{sorted(inputs) if isinstance(inputs, dict) else ''}."
            )
        outputs = runner(
            **{name: np.asarray(inputs[name], dtypes[name]) for name in dtypes}
        )
        return outputs.popitem()[1] if len(outputs) == 1 else outputs

    return run
