"""What users read when something is missing."""

import pathlib
import runpy
import sys

import keras
import pytest

from keras_sparse_rl import _tf_agents

ROOT = pathlib.Path(__file__).parent.parent.parent
WITHOUT_PINS = "pip install --no-deps tf-agents==0.19.0"


@pytest.mark.parametrize(
    "missing", ["tf_agents.networks", "gymnasium", "tensorflow_probability"]
)
def test_a_missing_package_is_named_with_the_line_to_install_it(
    missing, monkeypatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=missing.split(".")[0]) as error:
        runpy.run_path(_tf_agents.__file__)
    assert _tf_agents.INSTALL in str(error.value)


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="KERAS_BACKEND"):
        runpy.run_path(_tf_agents.__file__)


def test_everybody_gives_the_same_line():
    assert WITHOUT_PINS in _tf_agents.INSTALL
    assert WITHOUT_PINS in (ROOT / "README.md").read_text()
    line = WITHOUT_PINS.replace("pip install", "pip install --quiet")
    assert line in (ROOT / "Makefile").read_text()
