"""One of two workers on this machine; the test starts both.

python -m tests.distribution.worker INDEX PORT PORT FOLDER CALLBACK...
"""

import json
import os
import pathlib
import sys


def main(index, *arguments):
    ports, folder, names = arguments[:2], arguments[2], arguments[3:]
    hosts = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": int(index)}
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": hosts}, "task": task}
    )
    import keras
    import numpy as np

    from keras_sparse_rl.distribution import MultiWorkerStrategy
    from keras_sparse_rl.layers import SparseDense
    from tests.distribution import training

    strategy = MultiWorkerStrategy()
    folder, found = pathlib.Path(folder), {}
    keras.utils.set_random_seed(int(index))  # what worker 0 draws counts
    with strategy.scope():
        model = training.compiled()
        keras.random.SeedGenerator(0)  # of a dtype that is never sent
        try:
            SparseDense(4).build((None, 5))
        except ValueError as error:
            found["refusal"] = str(error)
    weights = model.get_weights()
    for number, weight in enumerate(weights):
        found[f"initial_{number}"] = weight
    for name in names:
        model.set_weights(weights)
        for key, masks in training.masks_by_step(model, name).items():
            found[f"{name}_{key}"] = masks
    np.savez(folder / f"worker{index}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
