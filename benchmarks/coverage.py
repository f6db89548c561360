r"""Which models `sparsify` covers, and whether they stay what they were.

Applications of Keras, networks of KerasHub, examples of keras.io and classes
of one's own, small and with random weights, each in a process of its own: the
share of the matrices that becomes sparse-ready, the change of the outputs,
twenty steps of `fit` with three callbacks, a file and back in a new process,
`densify`; of two models XLA, mixed precision and two replicas. Then seconds
and memory for a BERT of base size, and the time that the first step of `fit`
takes for twelve blocks of a transformer, sparse-ready beside plain. A check
that fails is a word in its row; a row with one is computed again next time.

    python -m benchmarks.coverage [NAME ...] [--hub build/hub/bin/python]

KerasHub would bring another TensorFlow, so it lives in an environment of its
own that borrows all else from this one:

    .venv/bin/python -m venv build/hub
    build/hub/bin/pip install --no-deps keras-hub kagglehub kagglesdk regex \
        tokenizers tqdm
    echo "import site; site.addsitedir('$(.venv/bin/python -c \
        'import site; print(site.getsitepackages()[0])')')" \
        > $(echo build/hub/lib/python3*/site-packages)/parent.pth
"""

import argparse
import functools
import json
import sys

import numpy as np

from benchmarks.coverage_checks import ALPHA
from benchmarks.coverage_checks import child
from benchmarks.coverage_models import MODELS
from benchmarks.results import FOLDER
from benchmarks.results import result
from benchmarks.results import table

NAME = "coverage"
CALLBACKS = ("TopKAST", "RigL", "MagnitudePruning")
MODES = ("jit_compile", "mixed_bfloat16", "mirrored")
IN_MODES = ("unet", "transformer_block")
EXTRAS = ("bert_base", "first_step")
# The allocator gives back at once what is freed.
MEASURABLE = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}


def measure(name, python):
    """A row, or one of the extras, from processes of its own."""
    if name == "bert_base":
        found = {}
        for alpha in ("1", "1.5"):
            found[alpha] = child(python, name, alpha, **MEASURABLE)
            timed = child(python, name, alpha)  # it is slower to give back
            found[alpha] |= {"seconds": timed.get("seconds")}
    elif name == "first_step":
        found = {b: child(python, name, b) for b in ("1", "12")}
    else:
        found = child(python, "row", name)
        if name in IN_MODES:
            found["modes"] = {
                kind: child(python, "mode", name, kind) for kind in MODES
            }
    return found


def failures(found):
    """Every failure in a result, with the check that failed."""
    own = dict(found.get("failures", {}))
    for part in found.values():
        if isinstance(part, dict) and part is not found.get("failures"):
            own |= failures(part)
    return own


def told(found):
    """The cells of a model's row."""
    failed = found["failures"]

    def cell(key, *checks, form="{:.0e}"):
        if any(check in failed for check in checks):
            return "FAILED"
        value = found.get(key)
        return "0" if value == 0 else form.format(value)

    fits = [c for c in CALLBACKS if c in failed or c not in found["fit"]]
    modes = found.get("modes", {})
    broken = [kind for kind, part in modes.items() if part["failures"]]
    return [
        f"{found['parameters']:,}",
        f"{100 * found['share']:.1f}",
        cell("seconds", form="{:.2f}"),
        cell("change_1", "alpha = 1", "alpha = 1, densify"),
        cell("change", f"alpha = {ALPHA}"),
        f"FAILED: {', '.join(fits)}" if fits else "exact",
        cell("file", "file"),
        cell("densify", "densify"),
        f"FAILED: {', '.join(broken)}" if broken else "yes" if modes else "",
    ]


def render(found):
    header = ["", "parameters", "sparse-ready, % of matrices", "seconds"]
    header += ["alpha = 1", f"alpha = {ALPHA}", "densities after `fit`"]
    header += ["file", "densify", "XLA, bfloat16, replicas"]
    rows = []
    for name, part in found.items():
        if name not in EXTRAS:
            whole = "share" in part and "fit" in part
            rows.append([name, *(told(part) if whole else ["FAILED"] * 9)])
    print(f"\n{table(header, rows)}")
    for alpha, part in found.get("bert_base", {}).items():
        if not part["failures"]:
            allowed = part["masks"] + part["largest_kernel"]
            print(
                f"\nBERT base, {part['parameters']:,} parameters, alpha = "
                f"{alpha}: {part['seconds']:.1f} s (target 10), at most "
                f"{part['added_peak'] / 2**20:.0f} MiB more (target "
                f"{allowed / 2**20:.0f})"
            )
    for blocks, part in found.get("first_step", {}).items():
        if not part["failures"]:
            plain, sparse = (np.array(part[k]) for k in ("plain", "sparse"))
            print(
                f"\nfirst step of fit, {blocks} block(s): "
                f"{np.median(plain):.2f} s plain, "
                f"{np.median(sparse / plain):.2f} times that sparse-ready "
                f"({(sparse / plain).min():.2f} to "
                f"{(sparse / plain).max():.2f}, target 1.5)"
            )
    for name, part in found.items():
        for check, text in failures(part).items():
            print(f"\nFAILED {name}, {check}: {text}")


def main():
    names = [*MODELS, *EXTRAS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=str(names))
    parser.add_argument("--hub", help="Python that has KerasHub")
    arguments = parser.parse_args()
    chosen = arguments.names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no model is called {sorted(unknown)}: {names}")
    found = {}
    for number, name in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        path = FOLDER / NAME / f"{name}.json"
        if path.exists() and failures(json.loads(path.read_text())):
            path.unlink()
        is_hub = name.startswith("hub_") or name == "bert_base"
        if is_hub and not (arguments.hub or path.exists()):
            print("    left out: needs --hub, see the top of this file")
            continue
        python = arguments.hub if is_hub else sys.executable
        found[name] = result(
            NAME, name, functools.partial(measure, name, python)
        )
    render(found)


if __name__ == "__main__":
    main()
