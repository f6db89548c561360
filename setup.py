"""Packaging of keras_sparse_rl; tool settings are in pyproject.toml."""

import pathlib

from setuptools import find_packages
from setuptools import setup

HERE = pathlib.Path(__file__).parent
VERSION = {}
exec((HERE / "keras_sparse_rl" / "version.py").read_text(), VERSION)

EXTRAS = {
    # TF-Agents itself is installed by `pip install --no-deps
    # tf-agents==0.19.0`: its own pins are from 2023 and do not install today.
    "agents": [
        "absl-py",
        "cloudpickle",
        "dm-tree",
        "gin-config",
        "gym==0.23.0",
        "gymnasium>=1.0",
        "numpy<2.4",
        "pillow",
        "scipy>=1.11",
        "setuptools",  # has the distutils that TF-Agents imports
        "six",
        "tensorflow-probability>=0.25",
        "tf-keras>=2.18",  # follows TensorFlow: see the README's line
        "wrapt",
    ],
    "litert": ["ai-edge-litert>=1.2"],
    "ray": ["ray>=2.10"],
    "examples": ["matplotlib>=3.7", "tensorboard>=2.18"],
    "dev": [
        "hypothesis>=6.100",
        "ipykernel>=6.29",
        "jupytext>=1.16",
        "furo>=2024.8",
        "matplotlib>=3.7",
        "myst-parser>=3.0",
        "nbclient>=0.10",
        "pytest>=8.0",
        "pytest-cov>=5.0",
        "pytest-xdist>=3.5",
        "ruff==0.17.*",
        "sphinx>=7.3",
        "tensorboard>=2.18",
    ],
}

# The tests and notebooks use everything but Ray.
EXTRAS["dev"] += EXTRAS["agents"]

setup(
    name="keras_sparse_rl",
    version=VERSION["__version__"],
    description=(
        "Sparse training, transformer memory and reinforcement learning from "
        "ten papers, as layers, callbacks and agents for Keras 3"
    ),
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["keras_sparse_rl", "keras_sparse_rl.*"]),
    package_data={"keras_sparse_rl.execution": ["*.cc"]},
    install_requires=["keras>=3.8", "numpy>=1.26", "tensorflow>=2.18"],
    extras_require=EXTRAS,
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
