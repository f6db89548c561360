"""Masks on several replicas: of one program, and of two."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_sparse_rl.layers import SparseDense
from tests.distribution import training

ROOT = pathlib.Path(__file__).parents[2]


def test_two_replicas_have_the_same_masks_after_every_step(two_replicas):
    with two_replicas.scope():
        model = training.compiled(SparseDense(6, 1.0, alpha=2.0))
    weights = model.get_weights()
    for name in training.CALLBACKS:
        model.set_weights(weights)
        # The recorder compares the replicas after every step.
        masks = training.masks_by_step(model, name)["masks"]
        assert len(masks) == 4
        changes = (masks[1:] != masks[:-1]).any(axis=1)
        assert changes.any() == (name != "StaticSparsity")


def two_workers(folder, names):
    """What two programs found, that train together over loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(contextlib.closing(socket.socket()))
            for _ in range(2)
        ]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in sockets]
    command = [sys.executable, "-m", "tests.distribution.worker"]
    workers = [
        subprocess.Popen(
            [*command, str(index), *ports, str(folder), *names],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, output in zip(workers, outputs):
        assert worker.returncode == 0, output[-3000:]
    return [dict(np.load(folder / f"worker{i}.npz")) for i in range(2)]


def check(tmp_path, names):
    first, second = two_workers(tmp_path, names)
    assert set(first) == set(second)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    for name in names:
        masks = first[f"{name}_masks"]
        changes = (masks[1:] != masks[:-1]).any(axis=1)
        assert changes.any() == (name != "StaticSparsity")
    assert "resting weights" in str(first["refusal"])
    return first


def test_two_workers_train_as_one(tmp_path):
    found = check(tmp_path, ["TopKAST", "RigL"])
    model = training.compiled()
    count = len(model.weights)
    for name in ("TopKAST", "RigL"):
        model.set_weights([found[f"initial_{n}"] for n in range(count)])
        alone = training.masks_by_step(model, name)
        np.testing.assert_array_equal(alone["masks"], found[f"{name}_masks"])
        # Keras 3.8 reports another loss, the same one on both workers.
        keras_3_8 = keras.__version__.startswith("3.8.")
        for key in ("thetas",) if keras_3_8 else ("thetas", "loss"):
            np.testing.assert_allclose(
                alone[key], found[f"{name}_{key}"], rtol=1e-4, atol=1e-6
            )


@pytest.mark.slow
def test_all_callbacks_on_two_workers(tmp_path):
    check(tmp_path, list(training.CALLBACKS))
