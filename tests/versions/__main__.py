"""Tries every version that the package promises: `make matrix`.

    python -m tests.versions [NAME ...] [--again] [--minutes 8]

Makes an environment of its own for each row in build/versions, installs what
the user has, then this package by the README's own lines, and runs a chosen
part of the tests. A result is written after each step, so that an interrupted
run goes on where it was; `--again` starts over. The table is docs/versions.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import time

from tests.versions import steps
from tests.versions import table
from tests.versions.environments import ENVIRONMENTS
from tests.versions.environments import find_python

RESULTS = pathlib.Path(__file__).parent / "results"
FOLDER = steps.ROOT / "build" / "versions"


class Run:
    """One environment: its folder, its log, and what is known so far."""

    def __init__(self, environment, minutes, again):
        self.environment = environment
        self.path = RESULTS / f"{environment.name}.json"
        self.folder = FOLDER / environment.name
        self.log = FOLDER / f"{environment.name}.log"
        self.python = str(self.folder / "bin" / "python")
        self.end = time.time() + 60 * minutes
        if again:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        self.result = {"words": environment.words, "tests": {}, "seconds": 0}
        if self.path.exists() and self.folder.exists():
            self.result = json.loads(self.path.read_text())

    def __call__(self):
        """Does what is left to do; returns whether all of it is right."""
        if "after" not in self.result:
            self._timed("install", self._install)
        tests = dict(steps.BASE_TESTS)
        if self.environment.with_agents:
            tests.update(steps.AGENT_TESTS)
        for name, arguments in tests.items():
            if not self._is_right(name):
                self._timed(name, self._test, name, arguments)
        same = self.result["before"] == self.result["after"]
        return same and all(map(self._is_right, tests))

    def _is_right(self, name):
        found = self.result["tests"].get(name, "")
        return "passed" in found and not {"failed", "error"} & {
            word.rstrip("s,") for word in found.split()
        }

    def _timed(self, name, do, *arguments):
        print(f"{self.environment.name}: {name} ...", end=" ", flush=True)
        start = time.time()
        found = do(*arguments)
        seconds = time.time() - start
        self.result["seconds"] = round(self.result["seconds"] + seconds)
        self.result["date"] = datetime.date.today().isoformat()
        self.result["commit"] = steps.commit()
        RESULTS.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.result, indent=1) + "\n")
        print(f"{found} ({seconds:.0f} s)", flush=True)

    def _install(self):
        python = find_python(self.environment.python)
        if python is None:
            raise SystemExit(
                f"Environment {self.environment.name} needs Python "
                f"{self.environment.python}: none is on PATH, nor of pyenv, "
                "nor known to uv (`uv python install`)."
            )
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._run([python, "-m", "venv", "--clear", str(self.folder)])
        pip = [self.python, "-m", "pip", "install", "--quiet"]
        self._run([*pip, "--upgrade", "pip"])
        self._run([*pip, *self.environment.packages])
        before = steps.versions(self.python)
        lines = steps.install_lines(self.environment.with_agents)
        self._run(["bash", "-e", "-c", lines])
        after = steps.versions(self.python)
        tools = list(steps.BASE_TOOLS)
        if self.environment.with_agents:
            tools = ["-e", f"{steps.ROOT}[dev]"]
        self._run([*pip, *tools, f"tensorflow=={after['tensorflow']}"])
        # NumPy has a cap of its own in [agents].
        self.result["python"] = self.environment.python
        self.result["numpy"] = after.pop("numpy")
        self.result["numpy_before"] = before.pop("numpy")
        self.result["before"], self.result["after"] = before, after
        return f"{before} -> {after}"

    def _test(self, name, arguments):
        start = self.log.stat().st_size
        pytest = [self.python, "-m", "pytest", "-q", "-n", "2"]
        self._run([*pytest, "--no-header", *arguments], check=False)
        found = steps.outcome(self.log, start)
        self.result["tests"][name] = found
        return found

    def _run(self, command, check=True):
        variables = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        left = max(1, self.end - time.time())
        status = steps.run_logged(command, self.log, variables, left)
        if check and status:
            raise subprocess.CalledProcessError(
                status, command, f"see {self.log}"
            )


def main():
    every = {environment.name: environment for environment in ENVIRONMENTS}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all if none")
    parser.add_argument("--again", action="store_true", help="start over")
    parser.add_argument("--minutes", type=float, default=8.0, help="for each")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in every:
            parser.error(f"no environment {name}: there are {', '.join(every)}")
    right = True
    for name in arguments.names or every:
        run = Run(every[name], arguments.minutes, arguments.again)
        right = run() and right
    table.write(RESULTS, every)
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
