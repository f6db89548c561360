"""The documentation, and the package as a new user meets it."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest
from sphinx.cmd import build

import keras_sparse_rl
from docs import make_api

ROOT = pathlib.Path(__file__).parent.parent
MODULES = [f"keras_sparse_rl.{name}" for name in make_api.MODULES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*/*.md"))
PUBLIC = [
    (module, name)
    for module in map(importlib.import_module, MODULES)
    for name, _ in make_api.public_names(module)
]


def test_the_site_builds_without_a_warning(tmp_path):
    status = build.main(["-W", "-q", str(ROOT / "docs"), str(tmp_path)])
    assert status == 0
    for page in PAGES:
        written = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (tmp_path / written).exists()


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "module, name", PUBLIC, ids=[name for _, name in PUBLIC]
)
def test_every_public_name_has_an_example(module, name):
    documentation = getattr(module, name).__doc__
    assert ">>>" in documentation
    assert f"{name}" in documentation


def test_the_page_of_all_names_is_up_to_date():
    """Otherwise: python docs/make_api.py"""
    path = ROOT / "docs" / "api.md"
    written = path.read_text(encoding="utf-8")
    assert written == make_api.page()
    for link in re.findall(r"\]\(([^)]+)\)", written):
        assert (path.parent / link).exists(), link


def test_import_needs_keras_and_tensorflow_alone():
    program = (
        "import os, sys, keras\n"
        "before = set(sys.modules)\n"
        "import keras_sparse_rl\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "new -= sys.stdlib_module_names\n"
        "assert new == {'keras_sparse_rl'}, new\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_version_is_that_of_the_changelog():
    version = keras_sparse_rl.__version__.split(".dev")[0]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
