"""The results as a page of the documentation."""

import json

from tests.versions.steps import AGENT_TESTS
from tests.versions.steps import BASE_TESTS
from tests.versions.steps import ROOT

PAGE = ROOT / "docs" / "versions.md"
HEAD = """# Versions

What was installed and run in environments of their own: the user's packages
first, then this package by the README's lines, then parts of the tests.
Installing left TensorFlow and Keras as they were in every row. This page is
written by `make matrix` (`make matrix ENV=colab` for one row).

With a pre-release of TensorFlow there is no `tf-keras`, which TF-Agents needs:
the README's line for `[agents]` then ends in pip's "ResolutionImpossible" and
changes nothing. The base package installs and works.

A row that is not here has not been run to its end. Each names the commit that
it ran.
"""


def write(results, environments):
    """Writes the page from the results that are there.

    Args:
        results: path of the folder of result files.
        environments: iterable of names, in the order of the rows.
    """
    columns = [*BASE_TESTS, *AGENT_TESTS]
    lines = [
        "| | Python | TensorFlow | Keras | NumPy | "
        + " | ".join(columns)
        + " | minutes | date | commit |",
        "|---" * (len(columns) + 8) + "|",
    ]
    for name in environments:
        path = results / f"{name}.json"
        if path.exists():
            lines.append(_row(name, json.loads(path.read_text()), columns))
    PAGE.write_text(HEAD + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _row(name, result, columns):
    moved = {
        package: f"{result['before'][package]} -> {version}"
        if result["before"][package] != version
        else version
        for package, version in result["after"].items()
    }
    cells = [
        f"{name}: {result['words']}",
        result["python"],
        moved["tensorflow"],
        moved["keras"],
        result["numpy"],
        *(result["tests"].get(column, "") for column in columns),
        f"{result['seconds'] / 60:.1f}",
        result["date"],
        result["commit"],
    ]
    return "| " + " | ".join(cells) + " |"
