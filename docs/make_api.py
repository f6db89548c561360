"""Writes `docs/api.md`: every public name, from the docstrings.

python docs/make_api.py
"""

import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
MODULES = {
    "layers": "Layers of Keras models: sparse-ready ones, and memories.",
    "kernels": "The contract of a sparse matrix, and how to find one.",
    "callbacks": "For `fit`, and for `agents.train`.",
    "optimizers": "",
    "sparsity": "Masks, densities and schedules; tools for whole models.",
    "distribution": "Data-parallel training on several machines.",
    "continual": "One task after another, none forgotten.",
    "gradients": "Gradients as lists of tensors.",
    "losses": "Pure functions of `(batch, time, ...)` tensors, and Keras "
    "losses for logged data.",
    "agents": "On TF-Agents.",
    "meta": "Exact predictors, log losses, and the optima of bandits.",
    "meta.tasks": "Data for `fit`: every sequence is another task.",
    "environments": "An adapter for Gymnasium, and tasks of TensorFlow alone.",
}


def public_names(module):
    """Names and objects that a module of the package offers."""
    return [
        (name, getattr(module, name))
        for name in dir(module)
        if not name.startswith("_")
        and getattr(getattr(module, name), "__module__", "").startswith(
            "keras_sparse_rl"
        )
    ]


def page():
    """The text of `docs/api.md`."""
    lines = ["# Every public name", ""]
    lines += ["Each has a docstring with shapes, its source and an example."]
    for name, words in MODULES.items():
        module = importlib.import_module(f"keras_sparse_rl.{name}")
        lines += ["", f"## `{name}`", ""]
        lines += [words, ""] if words else []
        lines += ["| name | what it is |", "|---|---|"]
        for public, value in sorted(
            public_names(module), key=lambda pair: pair[0].lower()
        ):
            path = "/".join(value.__module__.split(".")) + ".py"
            first = value.__doc__.strip().split("\n")[0].replace("|", "\\|")
            lines.append(f"| [`{public}`](../{path}) | {first} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "api.md").write_text(page(), encoding="utf-8")
