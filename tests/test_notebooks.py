"""Every notebook runs, and its two halves say the same."""

import jupytext
import pytest

from notebooks import run

SCRIPTS = run.scripts()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_in_fast_mode(script):
    notebook = run.execute(script, fast=True)
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert shown, "a notebook shows at least one plot"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_is_its_script(script):
    paired = jupytext.read(script.with_suffix(".ipynb"))
    sources = [
        (cell.cell_type, cell.source) for cell in jupytext.read(script).cells
    ]
    assert [(c.cell_type, c.source) for c in paired.cells] == sources
    outputs = [o for c in paired.cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not any(o.output_type == "error" for o in outputs)
