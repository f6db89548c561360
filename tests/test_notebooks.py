"""Every notebook runs, and its two halves say the same."""

import importlib.util
import subprocess
import sys

import jupytext
import matplotlib.pyplot as plt
import pytest
import tensorflow as tf
from IPython.core.interactiveshell import InteractiveShell

from notebooks import run

SCRIPTS = {path.stem: path for path in run.scripts()}
IN_A_KERNEL = "gradient_cosine"


@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - {IN_A_KERNEL}))
def test_runs_in_fast_mode(name, monkeypatch, tmp_path):
    """Cell by cell, as a kernel would, but without importing all anew."""
    monkeypatch.setenv("NOTEBOOK_FAST", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.chdir(run.HERE)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(plt, "show", lambda: None)
    shell, figures = InteractiveShell(), []
    for cell in jupytext.read(SCRIPTS[name]).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
            figures += plt.get_fignums()
            plt.close("all")
    assert figures, "a notebook shows at least one plot"


def test_runs_in_a_kernel():
    notebook = run.execute(SCRIPTS[IN_A_KERNEL], fast=True)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("name", SCRIPTS)
def test_notebook_is_its_script(name):
    script = SCRIPTS[name]
    paired = jupytext.read(script.with_suffix(".ipynb"))
    sources = [
        (cell.cell_type, cell.source) for cell in jupytext.read(script).cells
    ]
    assert [(c.cell_type, c.source) for c in paired.cells] == sources
    outputs = [o for c in paired.cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not any(o.output_type == "error" for o in outputs)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_first_cell_installs_once(name, monkeypatch, tmp_path):
    """Outside a checkout, as on Colab, and again after a restart."""
    cells = jupytext.read(SCRIPTS[name]).cells
    source = next(c.source for c in cells if c.cell_type == "code")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    commands = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: commands.append(command)
    )
    with pytest.raises(SystemExit, match="Set REPOSITORY"):
        exec(source, {})
    assert not commands
    source = source.replace('REPOSITORY = ""', 'REPOSITORY = "address"')
    exec(source, {})
    folder = tmp_path / "checkout"
    assert commands.pop(0) == ["git", "clone", "address", str(folder)]
    installed = commands[:]
    assert all(command[1:4] == ["-m", "pip", "install"] for command in commands)
    rest = "\n".join(c.source for c in cells)
    if "import agents" in rest or "environments" in rest:
        assert "[agents]" in source
    if "[agents]" in source:
        assert f"tensorflow=={tf.__version__}" in installed[0]
    (folder / "keras_sparse_rl").mkdir(parents=True)
    commands.clear()
    exec(source, {})
    assert commands == installed
    assert str(folder) in sys.path
