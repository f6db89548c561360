"""The README and the package as a new user meets them."""

import pathlib
import re
import subprocess
import sys

import pytest

import keras_sparse_rl
from keras_sparse_rl import agents
from keras_sparse_rl import callbacks
from keras_sparse_rl import environments
from keras_sparse_rl import gradients
from keras_sparse_rl import layers
from keras_sparse_rl import losses
from keras_sparse_rl import optimizers
from keras_sparse_rl import sparsity

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PUBLIC = [
    (module, name)
    for module in (
        layers,
        callbacks,
        gradients,
        losses,
        optimizers,
        sparsity,
        agents,
        environments,
    )
    for name in dir(module)
    if not name.startswith("_")
    and getattr(getattr(module, name), "__module__", "").startswith(
        "keras_sparse_rl"
    )
]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_readme_snippets_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Snippets stand in for one another's data: they run in order.
    namespace = {}
    for snippet in SNIPPETS[: number + 1]:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace


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


def test_every_public_name_stands_in_the_readme():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\w+", text))
    assert not {name for _, name in PUBLIC} - named


def test_import_needs_keras_and_tensorflow_alone():
    program = (
        "import os, sys, keras\n"
        "before = set(sys.modules)\n"
        "import keras_sparse_rl\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert new == {'keras_sparse_rl'}, new\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_version_is_that_of_the_changelog():
    version = keras_sparse_rl.__version__.split(".dev")[0]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
