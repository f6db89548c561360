"""One JSON file a seed, so that a benchmark resumes and renders later."""

import json
import os
import pathlib

import numpy as np
from scipy import stats

FOLDER = pathlib.Path(
    os.environ.get("BENCHMARK_RESULTS")
    or pathlib.Path(__file__).parent / "results"
)


def result(benchmark, name, compute):
    """The result called `name`: from its file, or computed and written.

    Args:
        benchmark: str, name of the benchmark, a folder of `results/`.
        name: str, name of the file without its ending.
        compute: function without arguments that returns what JSON can hold.
    """
    path = FOLDER / benchmark / f"{name}.json"
    if not path.exists():
        value = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n")
        print(f"wrote {path.name}", flush=True)
    return json.loads(path.read_text())


def interval(values, confidence=0.95):
    """Mean and half width of the t interval of a list of seeds' figures."""
    values = np.asarray(values, "float64")
    if values.size < 2:
        return float(values.mean()), float("nan")
    width = stats.t.ppf((1 + confidence) / 2, values.size - 1)
    return float(values.mean()), float(width * stats.sem(values))


def cell(values, digits=2):
    """`mean ± half width of the 95 % interval`, or one seed's figure."""
    mean, width = interval(values)
    if np.isnan(width):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {width:.{digits}f}"


def table(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in lines)
