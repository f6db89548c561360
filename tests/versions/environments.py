"""The environments that are tried, and the Pythons to make them of."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a user has before installing this package.

    Args:
        name: str, as in `make matrix ENV=name`.
        python: str, such as "3.12".
        packages: tuple of requirements that are installed first.
        with_agents: bool, whether the extra `[agents]` is installed. Not
            where there is no `tf-keras` for that TensorFlow.
        words: str, what it stands for.
    """

    name: str
    python: str
    packages: tuple
    with_agents: bool = True
    words: str = ""


ENVIRONMENTS = (
    Environment(
        "oldest",
        "3.10",
        (
            "tensorflow==2.18.*",
            "keras==3.8.*",
            "numpy==1.26.*",
            "gymnasium==1.0.*",
            "scipy==1.11.*",
        ),
        words="the oldest of each",
    ),
    Environment(
        "colab",
        "3.12",
        ("tensorflow==2.19.*", "keras==3.10.*", "numpy==2.0.*", "jax"),
        words="Colab's shape",
    ),
    Environment(
        "between",
        "3.11",
        ("tensorflow==2.20.*", "keras==3.13.*"),
        words="between",
    ),
    Environment(
        "newest", "3.13", ("tensorflow", "keras"), words="the newest of each"
    ),
    Environment(
        "pre-release",
        "3.13",
        ("tensorflow>=2.22.0rc0", "keras"),
        with_agents=False,
        words="a TensorFlow pre-release, base package alone",
    ),
)


def find_python(version):
    """Path of an interpreter of a version, or None if there is none.

    Looks at the Python that runs this, at PATH, at pyenv's and at uv's.

    Args:
        version: str, such as "3.12".
    """
    if sys.version.startswith(f"{version}."):
        return sys.executable
    candidates = [shutil.which(f"python{version}")]
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    if shutil.which("uv"):
        command = ["uv", "python", "find", version]
        found = subprocess.run(command, capture_output=True, text=True)
        candidates.append(found.stdout.strip())
    return next((str(c) for c in candidates if c and _runs(c, version)), None)


def _runs(python, version):
    # pyenv puts a `python3.12` on PATH that runs only where it is chosen.
    asked = subprocess.run(
        [python, "--version"], capture_output=True, text=True
    )
    return asked.stdout.startswith(f"Python {version}.")
