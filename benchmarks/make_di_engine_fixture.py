"""DI-engine's weights and outputs, for `tests/layers/di_engine_gtrxl.npz`.

    python -m benchmarks.make_di_engine_fixture CHECKOUT   (needs torch)

Run with opendilab/DI-engine 0.5.3 and torch 2.13. Two networks: with an
embedding and GRU gates, and without either.
"""

import pathlib
import sys

import numpy as np
import torch

from benchmarks.gtrxl_di_engine import load

NETWORKS = {
    "gated": {"input_dim": 5},
    "plain": {
        "input_dim": 8,
        "use_embedding_layer": False,
        "gru_gating": False,
        "dropout_ratio": 0.1,
    },
}
MEMORY_LENGTH, SEGMENTS = 6, ((0, 4), (4, 5), (5, 10))


def main():
    network_class = load(sys.argv[1])
    arrays = {}
    for name, arguments in NETWORKS.items():
        torch.manual_seed(0)
        network = network_class(
            head_dim=4,
            embedding_dim=8,
            head_num=2,
            layer_num=2,
            memory_len=MEMORY_LENGTH,
            **arguments,
        )
        network.eval()
        network.reset_memory(3)
        x = torch.randn(3, SEGMENTS[-1][1], arguments["input_dim"])
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
            outputs = [
                network(x[:, start:end], batch_first=True)["logit"].numpy()
                for start, end in SEGMENTS
            ]
        for key, value in network.state_dict().items():
            arrays[f"{name}/weights/{key}"] = value.numpy()
        arrays[f"{name}/inputs"] = x.numpy()
        arrays[f"{name}/outputs"] = np.concatenate(outputs, axis=1)
    root = pathlib.Path(__file__).parent.parent
    path = root / "tests" / "layers" / "di_engine_gtrxl.npz"
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
