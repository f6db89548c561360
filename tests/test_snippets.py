"""Every snippet of the README and of the documentation runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)
SNIPPETS = SNIPPET.findall((ROOT / "README.md").read_text(encoding="utf-8"))
PAGES = sorted((ROOT / "docs").glob("*/*.md"))


def test_readme_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) >= 2
    # In order: later snippets go on with what earlier ones have made.
    namespace = {}
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, f"README, snippet {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    snippets = SNIPPET.findall(page.read_text(encoding="utf-8"))
    assert snippets
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"{page.name}, {number}", "exec"), namespace)
