"""The agents' tests once more in TF-Agents' other Keras mode."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
FILES = [
    f"tests/agents/test_{name}.py"
    for name in (
        "keras_network",
        "actor_critic_agent",
        "train",
        "ppr_agent",
        "episodic",
        "kl_regularized_tf_agents",
    )
]
# One of each kind that touches TF-Agents' networks: all else is Keras 3 alone.
TOUCHES = (
    "(variables and none) or (ppo and LSTM) or (saver and none) or checkpoint "
    "or copies or reinforce or dqn or (equal_steps and LSTM) "
    "or (losses_equal and none) or acts_in_a_python or dictionary_lives "
    "or pays_the_divergence"
)


def test_with_tf_use_legacy_keras():
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            TOUCHES,
        ]
        + FILES,
        cwd=ROOT,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]
    assert " passed" in run.stdout
