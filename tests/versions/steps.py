"""What is done in each environment: install as the README says, then tests."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parent.parent.parent
README = ROOT / "README.md"

# Name of a column of the table to the tests that fill it.
BASE_TESTS = {
    "README": ["tests/test_snippets.py", "-k", "readme"],
    "layers": ["tests/layers/test_matrix.py"],
    "callbacks": [
        "tests/callbacks/test_top_kast.py",
        "tests/callbacks/test_drop_and_grow.py",
    ],
    "sparsify": [
        "tests/sparsity/test_tools.py",
        "tests/sparsity/test_in_place.py",
    ],
}
AGENT_TESTS = {
    "guides": ["tests/test_snippets.py", "-k", "page"],
    "notebooks": [
        "tests/test_notebooks.py",
        "-k",
        "fast_mode and (powerpropagation or agents)",
    ],
    "agents": ["tests/agents/test_actor_critic_agent.py"],
}
BASE_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "tensorboard"]
_VERSIONS = """
import importlib.metadata as m
for name in ("tensorflow", "keras", "numpy"):
    print(name, m.version(name))
"""


def install_lines(with_agents):
    """The README's own lines for a user's project, for this checkout.

    Args:
        with_agents: bool, the lines that install `[agents]`, or those
            without.
    """
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    found = [
        block
        for block in blocks
        if "CHECKOUT" in block and ("[agents]" in block) is with_agents
    ]
    if len(found) != 1:
        raise ValueError(
            "README.md must have one block that installs CHECKOUT "
            f"{'with' if with_agents else 'without'} [agents]. Found: {found}."
        )
    return found[0].replace("CHECKOUT", str(ROOT))


def versions(python):
    """Dict of package to version, of what matters here."""
    printed = subprocess.run(
        [python, "-c", _VERSIONS], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in printed.stdout.splitlines())


def commit():
    """The commit that is tried, short."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return printed.stdout.strip() or "?"


def run_logged(command, log, environment, seconds):
    """Runs a command in the checkout; all that it prints goes to a file.

    Args:
        command: list of str.
        log: path of the file, which is appended to.
        environment: dict, the environment's variables.
        seconds: float, after which it is ended.

    Returns:
        int, the exit status; -1 where it took too long.
    """
    with open(log, "a") as file:
        print("$", *command, file=file, flush=True)
        try:
            return subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            print(f"ended after {seconds:.0f} s", file=file)
            return -1


def outcome(log, start):
    """What pytest says last in a log, such as "12 passed, 1 skipped".

    Args:
        log: path of the file.
        start: int, the position in bytes from which it is read.
    """
    text = pathlib.Path(log).read_bytes()[start:].decode(errors="replace")
    found = re.findall(r"(\d+ (?:passed|failed|errors?|skipped).*?) in ", text)
    if not found:
        return "did not end"
    return re.sub(r", \d+ (deselected|warnings?)", "", found[-1]).strip()
