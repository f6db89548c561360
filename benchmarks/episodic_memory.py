"""Recall from 10,000 entries, beside brute force in NumPy.

    python -m benchmarks.episodic_memory [--turns 20]

One thread. One dictionary shared by 32 queries, writes into it, and 32
dictionaries with a query each beside the time that the machine needs to read
their keys once. In turns, the fastest of all; the figures of a busy machine
are upper bounds.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.results import table
from keras_sparse_rl.layers import EpisodicMemory

CAPACITY, DIM, QUERIES, CALLS = 10_000, 64, 32, 10


def full(batch, seed=0):
    """A state in which every slot is taken, by random keys and values."""
    generator = np.random.default_rng(seed)
    shape = (batch, CAPACITY, DIM)
    stamp = np.tile(np.arange(1, CAPACITY + 1, dtype="int32"), (batch, 1))
    keys = tf.constant(generator.normal(size=shape), tf.float32)
    return {
        "keys": keys,
        "values": tf.constant(generator.normal(size=shape), tf.float32),
        "squares": tf.reduce_sum(keys**2, axis=-1),
        "stamp": tf.constant(stamp),
        "clock": tf.fill((batch,), CAPACITY),
    }


def milliseconds(run):
    start = time.perf_counter()
    for _ in range(CALLS):
        run()
    return 1e3 * (time.perf_counter() - start) / CALLS


def brute_force(queries, keys):
    distance = (keys**2).sum(-1) - 2 * queries @ keys.T
    return np.argmin(distance, axis=-1)


def contestants():
    """Dict of name to a function without arguments."""
    one, many = full(1), full(QUERIES)
    generator = np.random.default_rng(1)
    queries = tf.constant(generator.normal(size=(1, QUERIES, DIM)), tf.float32)
    each = tf.constant(generator.normal(size=(QUERIES, DIM)), tf.float32)
    found = {}
    for k in (1, 10):
        memory = EpisodicMemory(CAPACITY, DIM, DIM, num_neighbours=k)
        recall = tf.function(lambda q, s, m=memory: m(q, s)[0])
        found[f"{k} nearest of 10,000 x 64, {QUERIES} queries"] = (
            lambda r=recall: r(queries, one)
        )
    memory = EpisodicMemory(CAPACITY, DIM, DIM)
    recall = tf.function(lambda q, s: memory(q, s)[0])
    found[f"nearest, {QUERIES} dictionaries with a query each"] = lambda: (
        recall(each, many)
    )
    total = tf.function(tf.reduce_sum)
    found[f"the sum of the keys of {QUERIES} dictionaries"] = lambda: total(
        many["keys"]
    )

    @tf.function
    def writes(state, number):
        for i in tf.range(number):
            key = tf.fill((1, DIM), tf.cast(i, tf.float32))
            state = memory.write(state, key, key)
        return memory.find(queries, state).keys

    found["100 writes in a loop of one graph, and a recall"] = lambda: writes(
        one, 100
    )
    keys = one["keys"].numpy()[0]
    flat = queries.numpy()[0]
    found[f"NumPy's brute force, {QUERIES} queries"] = lambda: brute_force(
        flat, keys
    )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    runs = contestants()
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(arguments.turns):
        for name, run in runs.items():
            times[name].append(milliseconds(run))
    print(
        table(
            ["", "fastest, ms", "median, ms"],
            [
                [name, f"{min(found):.2f}", f"{np.median(found):.2f}"]
                for name, found in times.items()
            ],
        )
    )


if __name__ == "__main__":
    main()
