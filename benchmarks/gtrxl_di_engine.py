"""Times DI-engine's GTrXL, one line of JSON a request; see `gtrxl.py`.

python benchmarks/gtrxl_di_engine.py CHECKOUT   (needs torch and numpy)
"""

import json
import pathlib
import sys
import time
import types

import torch


def load(checkout):
    """DI-engine's class, without the rest of the package being imported."""
    for name in ("ding", "ding.torch_utils", "ding.torch_utils.network"):
        module = types.ModuleType(name)
        module.__path__ = [str(pathlib.Path(checkout, *name.split(".")))]
        sys.modules[name] = module
    from ding.torch_utils.network.gtrxl import GTrXL

    return GTrXL


def function(network_class, case, heads):
    mode, width, layers, memory, batch, steps = case
    network = network_class(
        width,
        head_dim=width // heads,
        embedding_dim=width,
        head_num=heads,
        layer_num=layers,
        memory_len=memory,
        use_embedding_layer=False,
    )
    network.reset_memory(batch)
    inputs = torch.randn(steps, batch, width)
    if mode == "act":
        network.eval()

        def act():
            with torch.no_grad():
                network(inputs)

        return act

    def train():
        network.zero_grad()
        network(inputs)["logit"].square().mean().backward()

    return train


def main():
    torch.set_num_threads(1)
    network_class, functions = load(sys.argv[1]), {}
    for line in sys.stdin:
        request = json.loads(line)
        key = json.dumps(request["case"])
        if key not in functions:
            functions[key] = function(
                network_class, request["case"], request["heads"]
            )
            functions[key]()
        best = float("inf")
        for _ in range(request["calls"]):
            start = time.perf_counter()
            functions[key]()
            best = min(best, time.perf_counter() - start)
        print(best, flush=True)


if __name__ == "__main__":
    main()
