"""Sparse execution beside dense: whole steps, one layer, memory, inference.

`steps`: a step of `fit` (Adam, batch 128, forward density A, B = 2 A, TopKAST
without the refresh, whose time stands beside) of three layers of 2048 and of
1024 units, against the faster of dense Keras layers with and without XLA.
`layer`: forward and backward pass of one layer of 1024 x 1024, one thread,
fixed mask; with `--peers PYTHON` also sparselab 0.2.2 and sparseprop 0.1.14 on
PyTorch in an environment of their own, in the same run. `memory`: one layer of
2048 x 2048 in fresh processes. `predict`: a compiled call of one such layer.

All variants take turns in one process (the peers in theirs, turn about); the
figure is the least time over turns. Beside wall time stands the time of the
processor, which other programs disturb less.

    python -m benchmarks.sparse_step [steps layer memory predict]
        [--turns 7] [--steps 300] [--threads 2] [--peers PYTHON]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks.results import table

BATCH = 128
PARTS = ("steps", "layer", "memory", "predict")
# Read before TensorFlow is imported, so that each part has its own process.
PEERS = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(1)
generator = np.random.default_rng(0)
x = torch.tensor(generator.normal(size=(128, 1024)).astype("float32"))
x.requires_grad_()
def weight(density):
    w = generator.normal(size=(1024, 1024)).astype("float32")
    return torch.tensor(w * (generator.random(w.shape) < density))
def dense(density):
    layer = torch.nn.Linear(1024, 1024)
    return layer
def lab(density):
    import sparselab
    layer = sparselab.SparseLinear(1024, 1024, sparsity=1 - density)
    return layer
def prop(density):
    from sparseprop.modules import SparseLinear
    layer = torch.nn.Linear(1024, 1024)
    return SparseLinear(weight(density), bias=layer.bias)
layers, errors = {}, {}
for density in json.loads(sys.argv[1]):
    for name, make in (("torch", dense), ("sparselab", lab),
                       ("sparseprop", prop)):
        try:
            layer = make(density)
            layer(x).sum().backward()
            layers[f"{name} {density}"] = layer
        except (ImportError, OSError, RuntimeError, TypeError) as error:
            errors[f"{name} {density}"] = repr(error)
print(json.dumps(errors), flush=True)
for line in sys.stdin:
    times = {}
    for name, layer in layers.items():
        best = 1e9
        for _ in range(15):
            start = time.perf_counter()
            y = layer(x)
            y.backward(torch.ones_like(y))
            best = min(best, time.perf_counter() - start)
        times[name] = best
    print(json.dumps(times), flush=True)
"""


def least(runs, turns):
    """Least seconds `(wall, processor)` of each run, all taking turns."""
    for run in runs.values():
        run()
    seconds = {label: [] for label in runs}
    for turn in range(turns):
        # Every turn in another order.
        for label in np.roll(np.array(list(runs), object), turn):
            wall, busy = time.perf_counter(), time.process_time()
            runs[label]()
            seconds[label].append(
                (time.perf_counter() - wall, time.process_time() - busy)
            )
    return {label: np.min(times, 0) for label, times in seconds.items()}


def network(width, kind, density=None, execution="sparse"):
    import keras

    from keras_sparse_rl.layers import SparseDense

    def layer():
        if kind == "dense":
            return keras.layers.Dense(width, "relu")
        return SparseDense(
            width, density, activation="relu", execution=execution
        )

    return keras.Sequential(
        [
            keras.Input((width,)),
            *[layer() for _ in range(3)],
            keras.layers.Dense(10),
        ]
    )


def steps(turns, threads, num_steps):
    import keras
    import tensorflow as tf

    from keras_sparse_rl.callbacks import TopKAST
    from keras_sparse_rl.optimizers import Powerprop

    rows = []
    for width in (2048, 1024):
        generator = np.random.default_rng(0)
        x = generator.normal(size=(BATCH, width)).astype("float32")
        y = generator.integers(0, 10, BATCH)
        data = tf.data.Dataset.from_tensors((x, y)).cache().repeat(num_steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        runs = {}
        for jit in (False, True):
            model = network(width, "dense")
            model.compile("adam", loss, jit_compile=jit)
            runs["dense, XLA" if jit else "dense"] = lambda m=model, d=data: (
                m.fit(d, verbose=0)
            )
        callbacks = {}
        for density in (0.1, 0.05, 0.02):
            model = network(width, "sparse", density)
            model.compile(Powerprop("adam"), loss)
            callbacks[density] = TopKAST(density, refresh_every=10**6)
            runs[density] = lambda m=model, d=data, c=callbacks[density]: m.fit(
                d, callbacks=[c], verbose=0
            )
        found = {
            label: times / num_steps * 1e3
            for label, times in least(runs, turns).items()
        }
        dense = np.minimum(found["dense"], found["dense, XLA"])
        for density, callback in callbacks.items():
            start = time.perf_counter()
            callback.refresh(1)
            refresh = time.perf_counter() - start
            ratio = dense / found[density]
            rows.append(
                [
                    f"3 x {width}",
                    f"{1 - density:.0%}",
                    f"{found['dense'][0]:.1f}",
                    f"{found['dense, XLA'][0]:.1f}",
                    f"{found[density][0]:.1f}",
                    f"{ratio[0]:.2f}",
                    f"{ratio[1]:.2f}",
                    f"{refresh * 1e3:.0f}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    header = "layers, sparsity, dense ms, with XLA, sparse ms, times faster"
    return [*header.split(", "), "by processor time", "refresh ms"], rows


def layer(turns, threads, peers=None):
    import tensorflow as tf

    densities = (0.1, 0.05, 0.01)
    import keras

    from keras_sparse_rl.layers import SparseDense

    x = tf.constant(np.random.default_rng(0).normal(size=(BATCH, 1024)))
    x = tf.cast(x, "float32")
    upstream = tf.reverse(x, [0])
    made = {"keras": keras.layers.Dense(1024)}
    for density in densities:
        made[f"ours {density}"] = SparseDense(1024, density, density)

    def step(layer):
        layer(x)
        variables = [v.value for v in layer.trainable_variables]

        # The output is returned and its gradient an argument, or TensorFlow
        # leaves the forward product out.
        @tf.function
        def run(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return y, tape.gradient(y, [x, *variables], upstream)

        def several():
            best = 1e9
            for _ in range(15):
                start = time.perf_counter()
                run(x, upstream)
                best = min(best, time.perf_counter() - start)
            return best

        return several

    runs = {name: step(layer) for name, layer in made.items()}
    process = None
    if peers:
        command = [peers, "-c", PEERS, json.dumps(densities)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        print("peers that failed:", process.stdout.readline().strip())
    found = {}
    for _ in range(turns):
        times = {name: run() for name, run in runs.items()}
        if process:
            process.stdin.write("go\n")
            process.stdin.flush()
            times.update(json.loads(process.stdout.readline()))
        for name, seconds in times.items():
            found[name] = min(seconds, found.get(name, 1e9))
    if process:
        process.stdin.close()
        process.wait()
    rows = []
    for density in densities:
        ours = found[f"ours {density}"]
        row = [f"{1 - density:.0%}", found["keras"], ours]
        row += [
            found.get(f"{name} {density}", float("nan"))
            for name in ("torch", "sparselab", "sparseprop")
        ]
        ratio = f"{found['keras'] / ours:.1f}"
        rows.append([row[0], *[f"{s * 1e3:.2f}" for s in row[1:]], ratio])
    header = "sparsity, Keras Dense ms, ours ms, torch ms, sparselab ms"
    return [*header.split(", "), "sparseprop ms", "times Keras"], rows


def peak():
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_of(kind):
    """In a fresh process: bytes of state, and what a step adds to the peak."""
    import keras
    import tensorflow as tf

    from keras_sparse_rl.callbacks import TopKAST
    from keras_sparse_rl.layers import SparseDense
    from keras_sparse_rl.optimizers import Powerprop

    width, batch = 2048, 256
    inputs = keras.Input((width,))
    if kind == "dense":
        outputs = keras.layers.Dense(width)(inputs)
    else:
        outputs = SparseDense(width, 0.05)(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("adam" if kind == "dense" else Powerprop("adam"), "mse")
    x = tf.ones((batch, width))
    callbacks = [] if kind == "dense" else [TopKAST(0.05)]
    if callbacks:
        # The first masks; not a part of a step.
        model.optimizer.build(model.trainable_variables)
        callbacks[0].set_model(model)
    model.optimizer.build(model.trainable_variables)
    before = peak()
    model.fit(x, x, batch_size=batch, epochs=5, verbose=0)
    variables = [*model.weights, *model.optimizer.variables]
    size = sum(v.numpy().nbytes for v in variables)
    print(json.dumps({"state": size / 1e6, "peak": peak() - before}))


def memory(turns, threads):
    found = {}
    for kind in ("dense", "sparse"):
        run = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--memory-of", kind],
            capture_output=True,
            text=True,
            check=True,
        )
        found[kind] = json.loads(run.stdout.strip().splitlines()[-1])
    rows = [
        [name, *[f"{found[kind][key]:.1f}" for kind in found]]
        + [f"{found['sparse'][key] / max(1e-9, found['dense'][key]):.2f}"]
        for name, key in (
            ("parameters, masks and Adam's slots, MB", "state"),
            ("what 5 steps add to the peak, MB", "peak"),
        )
    ]
    return ["", "dense", "sparse, 95 %", "ratio"], rows


def predict(turns, threads):
    import keras
    import tensorflow as tf

    from keras_sparse_rl.layers import SparseDense

    rows = []
    for batch in (1, 128):
        x = tf.random.normal((batch, 2048))
        runs = {}
        for name, made in (
            ("dense", keras.layers.Dense(2048)),
            ("sparse", SparseDense(2048, 0.05)),
        ):
            made(x)
            call = tf.function(made).get_concrete_function(x)

            runs[name] = lambda call=call, x=x: call(x)
        found = least(runs, 50 * turns)
        times = [f"{found[name][0] * 1e3:.3f}" for name in runs]
        ratio = found["dense"][0] / found["sparse"][0]
        rows.append([str(batch), *times, f"{ratio:.1f}"])
    return ["batch", "dense ms", "sparse ms, 95 %", "times faster"], rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", help="python with the PyTorch peers")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    parts = arguments.parts
    if arguments.memory_of:
        memory_of(arguments.memory_of)
        return
    if len(parts) > 1:
        for part in parts:
            options = ["--turns", str(arguments.turns)]
            options += ["--threads", str(arguments.threads)]
            options += ["--steps", str(arguments.steps)]
            if arguments.peers:
                options += ["--peers", arguments.peers]
            command = [sys.executable, "-m", __spec__.name, part, *options]
            subprocess.run(command, check=True)
        return
    threads = 1 if parts[0] == "layer" else arguments.threads
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    # With two, two products of one layer would run beside each other.
    os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    options = {
        "layer": {"peers": arguments.peers},
        "steps": {"num_steps": arguments.steps},
    }.get(parts[0], {})
    function = {"steps": steps, "layer": layer}.get(parts[0])
    function = function or {"memory": memory, "predict": predict}[parts[0]]
    header, rows = function(arguments.turns, threads, **options)
    print(f"\n{parts[0]}, {threads} threads\n\n{table(header, rows)}\n")


if __name__ == "__main__":
    main()
