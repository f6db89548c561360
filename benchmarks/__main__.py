"""All benchmarks, one after another: `make bench` and `make bench-quick`.

What has a result file is not computed again, so a second call renders, and an
interrupted one goes on. Each benchmark is a process of its own; what needs
data or a peer that is not given is named and left out. With `--quick` speeds
are measured in fewer turns, learning runs have one seed, and those that take
more than a few minutes are left out; its results go to `build/bench-quick`.

    python -m benchmarks [--quick] [--only NAME ...] [--mnist DIR] [...]
"""

import argparse
import dataclasses
import importlib.util
import os
import subprocess
import sys
import time


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A command, and how it is shortened.

    Args:
        name: module of `benchmarks`.
        arguments: tuple of str, always given.
        quick: tuple of str that shorten it, or None: not in a quick run.
        needs: dict of the module's option to the option of this command that
            has its value.
        optional: the same, of what it can do without.
        package: name of a package that the `dev` extra does not bring, or
            None.
    """

    name: str
    arguments: tuple = ()
    quick: tuple | None = None
    needs: dict = dataclasses.field(default_factory=dict)
    optional: dict = dataclasses.field(default_factory=dict)
    package: str | None = None


BENCHMARKS = (
    Benchmark("small_costs", quick=("--runs", "2")),
    Benchmark("step_cost", quick=("--turns", "101")),
    Benchmark(
        "coverage",
        quick=("own_matrices", "gru_seq2seq"),
        optional={"--hub": "hub_python"},
    ),
    Benchmark(
        "sparse_step",
        quick=("layer", "memory", "predict", "--turns", "3", "--threads", "1"),
        optional={"--peers": "sparse_torch_python"},
    ),
    Benchmark("sparse_convolution", quick=("--turns", "2")),
    Benchmark("litert", quick=("--turns", "5"), package="ai-edge-litert"),
    Benchmark("episodic_memory", quick=("--turns", "5")),
    Benchmark("gradient_cosine_cost", quick=("--turns", "2")),
    Benchmark(
        "gtrxl",
        optional={"--di-engine": "di_engine", "--torch-python": "torch_python"},
    ),
    Benchmark("ppr", ("--cost", "acting", "training"), ("--turns", "3")),
    Benchmark("agent_throughput", optional={"--sb3-python": "sb3_python"}),
    Benchmark(
        "powerpropagation_mnist",
        ("--optimizers", "sgd", "adam", "powerprop_adam"),
        needs={"--data": "mnist"},
    ),
    Benchmark(
        "top_kast",
        ("--name", "mnist"),
        needs={"--data": "mnist"},
        optional={"--jaxpruner": "jaxpruner", "--jax-python": "jax_python"},
    ),
    Benchmark(
        "top_kast",
        ("--name", "fashion_mnist"),
        needs={"--data": "fashion_mnist"},
    ),
    Benchmark("top_kast_cifar", needs={"--data": "cifar"}),
    Benchmark("growth", needs={"--data": "mnist"}),
    Benchmark("sparse_agents", quick=("--seeds", "1")),
    Benchmark("tf_agents_sparse"),
    Benchmark("continual"),
    Benchmark("sparse_language_model", needs={"--text": "text"}),
    Benchmark("cart_pole", quick=("--seeds", "1")),
    Benchmark("memory_agents"),
    Benchmark("policy_heads"),
    Benchmark("stability", ("--tasks", "t_maze")),
    Benchmark("near_and_far"),
    Benchmark("gated_distillation"),
    Benchmark("distillation"),
    Benchmark("distillation_grid_worlds"),
    Benchmark("default_policies"),
    Benchmark("ppr"),
    Benchmark("mix_and_match"),
    Benchmark("collectors"),
    Benchmark("episodic_recall", optional={"--folder": "omniglot"}),
    Benchmark(
        "meta_learning",
        quick=("--parts", "bandits", "thompson", "--seeds", "1"),
    ),
)

GIVEN = {
    "mnist": "folder of MNIST's idx files",
    "fashion_mnist": "folder of Fashion-MNIST's idx files",
    "cifar": "folder of CIFAR-10 as PNG, or keras",
    "text": "text file for the language models",
    "omniglot": "folder of Omniglot's images",
    "di_engine": "checkout of DI-engine",
    "torch_python": "Python with torch, for DI-engine",
    "sparse_torch_python": "Python with torch, sparselab and sparseprop",
    "sb3_python": "Python with sb3-contrib and popgym",
    "jaxpruner": "checkout of jaxpruner",
    "jax_python": "Python with jax 0.4.20",
    "hub_python": "Python with keras-hub",
}


def command(benchmark, given, quick):
    """The command line of a benchmark, or why it is left out."""
    words = [sys.executable, "-m", f"benchmarks.{benchmark.name}"]
    words += benchmark.arguments
    if quick:
        if benchmark.quick is None:
            return None, "not in a quick run"
        words += benchmark.quick
    if benchmark.package:
        module = benchmark.package.replace("-", "_")
        if importlib.util.find_spec(module) is None:
            return None, f"needs pip install {benchmark.package}"
    for name in benchmark.needs.values():
        if given[name] is None:
            return None, f"needs --{name.replace('_', '-')}"
    for option, name in {**benchmark.needs, **benchmark.optional}.items():
        if given[name] is not None:
            words += [option, given[name]]
    return words, None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    names = sorted({benchmark.name for benchmark in BENCHMARKS})
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    for name, text in GIVEN.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=text)
    arguments = parser.parse_args()
    chosen = [b for b in BENCHMARKS if b.name in arguments.only]
    environment = dict(os.environ)
    if arguments.quick:
        environment["BENCHMARK_RESULTS"] = "build/bench-quick"
    ends = []
    for number, benchmark in enumerate(chosen, 1):
        label = " ".join((benchmark.name, *benchmark.arguments))
        words, reason = command(benchmark, vars(arguments), arguments.quick)
        print(f"\n[{number}/{len(chosen)}] {label}", flush=True)
        start = time.monotonic()
        if words:
            status = subprocess.run(words, env=environment).returncode
            reason = "done" if status == 0 else f"FAILED with status {status}"
        print(reason, flush=True)
        ends.append((label, reason, time.monotonic() - start))
    print()
    for label, reason, seconds in ends:
        print(f"{label}: {reason}, {seconds:.0f} s")
    if any(reason.startswith("FAILED") for _, reason, _ in ends):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
