"""Arrows between packages run one way, and none hides in a function."""

import ast
import pathlib

import pytest

import keras_sparse_rl

PACKAGE = pathlib.Path(keras_sparse_rl.__file__).parent
# A package imports those of the rows above its own, and of its own row only
# those to the left of it.
LAYERS = (
    ("kernels",),
    ("losses", "gradients", "meta", "execution", "distribution"),
    ("optimizers", "layers"),
    ("sparsity",),
    ("callbacks",),
    ("continual",),
    ("environments",),
    ("agents",),
)
ORDER = [name for row in LAYERS for name in row]
FILES = sorted(PACKAGE.rglob("*.py"))


def package_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imported(tree):
    """The packages of ours that a file imports, with line numbers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "keras_sparse_rl":
                names = parts[1:2] or [alias.name for alias in node.names]
                yield from ((name, node.lineno) for name in names)


def test_every_package_has_its_place():
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ORDER)


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_run_down_only(path):
    here = package_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if here is not None:
        allowed = ORDER[: ORDER.index(here) + 1]
        for name, line in imported(tree):
            if name in ORDER:
                assert name in allowed, f"{path}:{line} imports {name}"
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = ast.Module(function.body, [])
            hidden = list(imported(inside))
            assert not hidden, f"{path}:{hidden[0][1]} imports in a function"


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_kernels_are_known_by_their_contract(path):
    """Not by an attribute that a variable or a kernel may have."""
    text = path.read_text(encoding="utf-8")
    for probe in ('"sparse_kernel"', '"capacity"', '"sparse_kernel_slots"'):
        assert f"hasattr({probe}" not in text.replace("hasattr(k, ", "hasattr(")
        assert not any(
            probe in line and ("hasattr(" in line or "getattr(" in line)
            for line in text.splitlines()
        ), f"{path} probes {probe}"
    if path.name != "keras_members.py":
        assert "keras.src" not in text
