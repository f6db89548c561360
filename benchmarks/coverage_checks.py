"""What `benchmarks.coverage` measures, each part in a process of its own.

    python -m benchmarks.coverage_checks ANSWER PART [ARGUMENT ...]

writes what the part finds to the file ANSWER, as JSON.
"""

import contextlib
import json
import math
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import time
import traceback

import keras
import numpy as np
import tensorflow as tf

from benchmarks.coverage_models import MODELS
from benchmarks.coverage_models import hub_bert
from benchmarks.coverage_models import transformer
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.kernels import kernel_of
from keras_sparse_rl.kernels import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import sparsify

DENSITY, STEPS, REFRESH_EVERY = 0.2, 20, 5
ALPHA = 1.5


def child(python, *words, **environment):
    """What a part gives that runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder) / "answer.json"
        command = [python, "-m", "benchmarks.coverage_checks", answer, *words]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **environment}
        done = subprocess.run(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        if answer.exists():
            return json.loads(answer.read_text())
    print(done.stderr, flush=True)
    end = done.stderr.strip()[-400:] or f"status {done.returncode}"
    return {"failures": {" ".join(words): end}}


@contextlib.contextmanager
def attempt(found, label):
    """Writes down what fails, and goes on."""
    print(f"    {label}", flush=True)
    try:
        yield
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        text = f"{type(error).__name__}: {error}"
        found["failures"][label] = text[:600]


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def values(model, x):
    """All outputs, a list of arrays."""
    outputs = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(o).astype("float64") for o in outputs]


def change(before, after):
    """The largest change of an output, relative to the largest output."""
    changes = [
        float(abs(a - b).max() / abs(b).max()) for b, a in zip(before, after)
    ]
    require(np.isfinite(changes).all(), "outputs that are not finite")
    return max(changes)


def kinds(model):
    return [type(layer).__name__ for layer in model._flatten_layers()]


def eligible(model, outputs):
    """The matrices that are neither embeddings nor give outputs."""
    embeddings = [
        variable
        for layer in model._flatten_layers()
        if "embedding" in type(layer).__name__.lower()
        for variable in layer.weights
    ]
    spared = {id(variable) for variable in embeddings}
    return [
        variable
        for variable in model.trainable_weights
        if len(variable.shape) > 1
        and "bias" not in variable.name
        and id(variable) not in spared
        and not any(
            re.search(outputs, part) for part in variable.path.split("/")
        )
    ]


def size(variables):
    return sum(math.prod(variable.shape) for variable in variables)


def callbacks():
    return {
        "TopKAST": TopKAST(DENSITY, refresh_every=REFRESH_EVERY),
        "RigL": RigL(
            DENSITY,
            end_step=15,
            refresh_every=REFRESH_EVERY,
            densities="uniform",
        ),
        "MagnitudePruning": MagnitudePruning(
            PolynomialSchedule(DENSITY, 0, 10),
            refresh_every=REFRESH_EVERY,
        ),
    }


def train(model, x, callback, jit_compile=False):
    """Loss and seconds of `fit`; all densities must be exact after it."""
    generator = np.random.default_rng(1)
    outputs = model(x, training=False)
    y = keras.tree.map_structure(
        lambda o: generator.normal(size=o.shape).astype("float32"), outputs
    )
    losses = keras.tree.map_structure(lambda o: "mse", outputs)
    optimizer = Powerprop(keras.optimizers.Adam(1e-3))
    model.compile(
        optimizer,
        losses,
        metrics=[],  # KerasHub's own expect classes
        weighted_metrics=[],
        jit_compile=jit_compile,
    )
    data = tf.data.Dataset.from_tensors((x, y)).repeat(STEPS)
    start = time.perf_counter()
    logs = model.fit(data, callbacks=[callback], verbose=0).history
    seconds = time.perf_counter() - start
    loss = logs["loss"][-1]
    require(math.isfinite(loss), f"a loss of {loss}")
    for kernel in sparse_kernels(model):
        used = np.count_nonzero(kernel.forward_mask())
        all_weights = math.prod(kernel.shape)
        wanted = max(1, round(DENSITY * all_weights))
        text = f"{kernel.path} uses {used} of {all_weights}, not {wanted}"
        require(used == wanted, text)
    return {"loss": loss, "seconds": seconds}


def row(name):
    """All that is measured of one model."""
    found = {"failures": {}}
    keras.utils.set_random_seed(0)
    model, x, outputs = MODELS[name]()
    before, plain_kinds = values(model, x), kinds(model)
    matrices = eligible(model, outputs)
    found["parameters"] = model.count_params()
    found["matrices"] = size(matrices)
    with attempt(found, "alpha = 1"):
        start = time.perf_counter()
        sparsify(model, alpha=1.0, verbose=0)
        found["seconds"] = time.perf_counter() - start
        left = [v for v in matrices if kernel_of(v) is None]
        found["share"] = 1 - size(left) / size(matrices)
        found["left"] = [f"{v.path} {tuple(v.shape)}" for v in left]
        found["kernels"] = len(sparse_kernels(model))
        found["change_1"] = change(before, values(model, x))
        require(found["change_1"] == 0, "outputs change")
    with attempt(found, "alpha = 1, densify"):
        densify(model)
        require(change(before, values(model, x)) == 0, "outputs change")
        require(kinds(model) == plain_kinds, "other classes than before")
    with attempt(found, f"alpha = {ALPHA}"):
        sparsify(model, alpha=ALPHA, verbose=0)
        found["change"] = change(before, values(model, x))
        require(found["change"] < 1e-5, "outputs change")
    start_weights, found["fit"] = model.get_weights(), {}
    for label, callback in callbacks().items():
        with attempt(found, label):
            model.set_weights(start_weights)
            found["fit"][label] = train(model, x, callback)
    before = values(model, x)
    with attempt(found, "file"), tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.keras"
        model.save(path)
        with open(f"{path}.pickle", "wb") as file:
            counts = [int(k.dense_mask().sum()) for k in sparse_kernels(model)]
            pickle.dump((x, before, counts, kinds(model)), file)
        answer = child(sys.executable, "load", path)
        require("change" in answer, answer["failures"])
        found["file"] = answer["change"]
        require(found["file"] == 0, "outputs change")
    with attempt(found, "densify"):
        densify(model)
        found["densify"] = change(before, values(model, x))
        require(found["densify"] == 0, "outputs change")
        require(not sparse_kernels(model), "kernels are left")
        require(kinds(model) == plain_kinds, "other classes than before")
    return found


def load(path):
    """Loads a model's file: it computes what it did, and is as sparse."""
    found = {"failures": {}}
    with contextlib.suppress(ImportError):
        import keras_hub  # noqa: F401, registers its classes
    with open(f"{path}.pickle", "rb") as file:
        x, before, counts, kinds_before = pickle.load(file)
    with attempt(found, "load"):
        model = keras.saving.load_model(path)
        masks = [int(k.dense_mask().sum()) for k in sparse_kernels(model)]
        require(masks == counts, "other masks")
        require(kinds(model) == kinds_before, "other classes than before")
        found["change"] = change(before, values(model, x))
    return found


def mode(name, kind):
    """A few steps of `fit` with XLA, in half precision, or on two devices."""
    found, scope = {"failures": {}}, contextlib.nullcontext
    with attempt(found, kind):
        if kind == "mixed_bfloat16":
            keras.config.set_dtype_policy(kind)
        if kind == "mirrored":
            device = tf.config.list_physical_devices("CPU")[0]
            two = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(device, two)
            strategy = tf.distribute.MirroredStrategy(
                ["CPU:0", "CPU:1"],
                cross_device_ops=tf.distribute.ReductionToOneDevice(),
            )
            scope = strategy.scope
        with scope():
            model, x, _ = MODELS[name]()
            sparsify(model, alpha=ALPHA, verbose=0)
        callback = callbacks()["TopKAST"]
        with scope():
            found |= train(model, x, callback, kind == "jit_compile")
    return found


def memory(label):
    """Bytes of this process: `VmRSS`, or `VmHWM`, the most since a reset."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{label}:\s+(\d+) kB", status)[1])


def bert_base(alpha):
    """Seconds and memory that `sparsify` takes for a BERT of base size.

    The operating system counts: the most that is resident while it runs, less
    what is resident before it, when the weights are there. A small model is
    made sparse first, so that what TensorFlow loads at first use is loaded;
    and arrays do not share the allocator's heap, which never shrinks
    (`MALLOC_MMAP_THRESHOLD_`).
    """
    found = {"failures": {}}
    with attempt(found, "BERT base"):
        model, _, _ = hub_bert((30522, 12, 12, 768, 3072))
        found["parameters"] = model.count_params()
        sparsify(transformer()[0], alpha=alpha, verbose=0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before, start = memory("VmRSS"), time.perf_counter()
        sparsify(model, alpha=alpha, verbose=0)
        found["seconds"] = time.perf_counter() - start
        found["added_peak"] = memory("VmHWM") - before
        found["added"] = memory("VmRSS") - before
        sizes = [math.prod(kernel.shape) for kernel in sparse_kernels(model)]
        found["masks"], found["largest_kernel"] = sum(sizes), 4 * max(sizes)
    return found


def first_step(blocks, turns=3):
    """Seconds of the first step of `fit`, plain and sparse-ready in turn."""
    found = {"failures": {}, "plain": [], "sparse": []}
    with attempt(found, f"first step, {blocks} blocks"):
        for turn in range(turns + 1):
            for kind in ("plain", "sparse"):
                model, x, _ = transformer(blocks)
                optimizer = keras.optimizers.Adam(1e-3)
                if kind == "sparse":
                    sparsify(model, alpha=ALPHA, verbose=0)
                    optimizer = Powerprop(optimizer)
                model.compile(optimizer, "mse", jit_compile=False)
                y = np.zeros((len(x), 2), "float32")
                start = time.perf_counter()
                model.fit(x, y, verbose=0)
                seconds = time.perf_counter() - start
                print(f"        {kind} {seconds:.2f} s", flush=True)
                if turn:  # what comes first pays for imports
                    found[kind].append(seconds)
                keras.backend.clear_session()
    return found


PARTS = {
    "row": row,
    "load": load,
    "mode": mode,
    "bert_base": lambda alpha: bert_base(float(alpha)),
    "first_step": lambda blocks: first_step(int(blocks)),
}


if __name__ == "__main__":
    answer, part, *arguments = sys.argv[1:]
    text = json.dumps(PARTS[part](*arguments), indent=1)
    pathlib.Path(answer).write_text(text)
