"""The documentation site: `make docs`."""

import importlib
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from docs import make_api  # noqa: E402

project = "keras_sparse_rl"
author = "the authors of keras_sparse_rl"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath", "amsmath"]
default_role = "code"
napoleon_custom_sections = [("Call arguments", "params_style")]
napoleon_use_ivar = True
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False  # Keras' are Markdown
exclude_patterns = ["_build", "images"]
html_theme = "furo"
# The page of all names links to sources, which lie outside of this folder.
suppress_warnings = ["myst.xref_missing"]


def write_reference(app):
    """A page a module, of the docstrings of all its public names."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    documented = []
    for name in make_api.MODULES:
        module = importlib.import_module(f"keras_sparse_rl.{name}")
        lines = [name, "=" * len(name), ""]
        for public, value in make_api.public_names(module):
            kind = "class" if isinstance(value, type) else "function"
            lines.append(f".. auto{kind}:: keras_sparse_rl.{name}.{public}")
            if value in documented:  # `layers` offers what `kernels` does
                lines.append("   :no-index:")
            documented.append(value)
            lines.append("")
        (folder / f"{name}.rst").write_text("\n".join(lines))


def join_names(app, what, name, value, options, lines):
    """Several names before a colon on one line, where napoleon reads them."""
    joined = []
    for line in lines:
        if joined and re.fullmatch(r" +(\w+, )*\w+,", joined[-1]):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    lines[:] = joined


def setup(app):
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", join_names, priority=100)
