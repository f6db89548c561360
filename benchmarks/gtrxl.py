"""Acting and training with GTrXL, beside DI-engine's.

One thread each, in turns: a round of ours, then a round of DI-engine's in a
process of its own that waits meanwhile. The fastest call of all rounds counts,
so a busy neighbour slows neither. Widths, heads (2), memories and batches are
the same; ours acts through the concrete function of `layer.step`, with and
without XLA.

    python -m benchmarks.gtrxl --di-engine CHECKOUT --torch-python PYTHON

The checkout is of opendilab/DI-engine (seen with 0.5.3); the Python needs
torch and numpy alone. Without them ours is measured by itself.
"""

import argparse
import json
import pathlib
import subprocess
import time

import tensorflow as tf

from benchmarks.results import table
from keras_sparse_rl.layers import GTrXL

HEADS, ROUNDS = 2, 8
# name: (mode, width, layers, memory, batch, time), calls a round
CASES = {
    "act, d64 L2 M64, batch 1": (("act", 64, 2, 64, 1, 1), 100),
    "act, d256 L3 M64, batch 16": (("act", 256, 3, 64, 16, 1), 30),
    "act, d256 L12 M512, batch 1": (("act", 256, 12, 512, 1, 1), 15),
    "train, d256 L3 M64, batch 16, T=64": (("train", 256, 3, 64, 16, 64), 4),
}
TARGETS = (1.7, 3.0, 4.0, 1.0)


def ours(case, jit_compile):
    """A function that does one step of acting, or one of training."""
    mode, width, layers, memory, batch, steps = case
    layer = GTrXL(
        layers, HEADS, width // HEADS, width, memory, return_state=True
    )
    layer.build((None, None, width))
    state = layer.initial_state(batch)
    if mode == "act":
        inputs = tf.random.normal((batch, width))
        is_first = tf.zeros((batch,), tf.bool)
        # TensorFlow's look-up of the right trace, in Python, costs as much as
        # the smallest step: who acts from Python keeps the concrete function.
        step = tf.function(
            layer.step, jit_compile=jit_compile
        ).get_concrete_function(inputs, state, is_first)

        def act():
            nonlocal state
            outputs, state = step(inputs, state, is_first)
            outputs.numpy()

        return act
    inputs = tf.random.normal((batch, steps, width))
    variables = [v.value for v in layer.trainable_variables]

    @tf.function(jit_compile=jit_compile)
    def gradients(state):
        with tf.GradientTape() as tape:
            outputs, state = layer(inputs, state=state)
            loss = tf.reduce_mean(tf.square(outputs))
        return tape.gradient(loss, variables), state

    def train():
        nonlocal state
        found, state = gradients(state)
        found[0].numpy()

    return train


def fastest(function, calls):
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


class Peer:
    """DI-engine's GTrXL in its own process, run when asked."""

    def __init__(self, python, checkout):
        script = pathlib.Path(__file__).parent / "gtrxl_di_engine.py"
        self.process = subprocess.Popen(
            [python, script, checkout],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fastest(self, case, calls):
        request = json.dumps({"case": case, "heads": HEADS, "calls": calls})
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def measure(peer):
    rows = []
    for (name, (case, calls)), target in zip(CASES.items(), TARGETS):
        functions = {jit: ours(case, jit) for jit in (True, False)}
        for function in functions.values():
            function()  # traces
        best = {True: float("inf"), False: float("inf"), "peer": float("inf")}
        for _ in range(ROUNDS):
            for jit, function in functions.items():
                best[jit] = min(best[jit], fastest(function, calls))
            if peer is not None:
                best["peer"] = min(best["peer"], peer.fastest(case, calls))
        row = [name] + [f"{1000 * best[key]:.2f}" for key in (True, False)]
        if peer is not None:
            ratio = best["peer"] / min(best[True], best[False])
            row += [f"{1000 * best['peer']:.2f}", f"{ratio:.2f}x", target]
        rows.append(row)
        print(" | ".join(map(str, row)), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--di-engine", help="checkout of DI-engine")
    parser.add_argument("--torch-python", help="Python that has torch")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    header = ["ms, fastest call", "XLA", "no XLA"]
    peer = None
    if arguments.di_engine and arguments.torch_python:
        peer = Peer(arguments.torch_python, arguments.di_engine)
        header += ["DI-engine", "we are faster by", "target"]
    else:
        print("no --di-engine and --torch-python: ours alone")
    print("\n" + table(header, measure(peer)))


if __name__ == "__main__":
    main()
