"""Runs every notebook and stores what it shows: `make notebooks`.

python notebooks/run.py [NAME ...] [--fast]
"""

import argparse
import os
import pathlib
import time

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).parent


def scripts():
    """The notebooks as scripts: every `.py` here with a jupytext header."""
    return sorted(
        path
        for path in HERE.glob("*.py")
        if path.read_text().startswith("# ---\n# jupyter:")
    )


def execute(script, fast):
    """The executed notebook of a script."""
    notebook = jupytext.read(script)
    environment = {**os.environ, "NOTEBOOK_FAST": "1" if fast else ""}
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute(env=environment)
    for number, cell in enumerate(notebook.cells):
        # Neither names drawn at random nor times of day: a notebook that is
        # run again differs in what it shows alone.
        cell["id"] = f"cell-{number}"
        if cell.cell_type != "code":
            continue
        # Warnings name the paths of the machine they ran on.
        cell["outputs"] = [
            output
            for output in cell.get("outputs", [])
            if output.get("name") != "stderr"
        ]
    return notebook


def main():
    every = {script.stem: script for script in scripts()}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all if none")
    parser.add_argument("--fast", action="store_true", help="and store nothing")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in every:
            parser.error(f"no notebook {name}: there are {', '.join(every)}")
    for name in arguments.names or every:
        script, start = every[name], time.time()
        notebook = execute(script, arguments.fast)
        if not arguments.fast:
            nbformat.write(notebook, script.with_suffix(".ipynb"))
        print(f"{script.stem}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
