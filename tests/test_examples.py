"""The examples run from start to end, and answer wrong calls."""

import contextlib
import io
import pathlib
import runpy
import struct
import subprocess
import sys
import types

import numpy as np
import pytest

from examples import image_data

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def run(monkeypatch):
    """Runs an example as its command does, without importing all anew."""

    def run(*arguments, script):
        path = ROOT / "examples" / f"{script}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        out, errors, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out):
            with contextlib.redirect_stderr(errors):
                try:
                    runpy.run_path(str(path), run_name="__main__")
                except SystemExit as stop:
                    code = stop.code
        if isinstance(code, str):
            errors.write(code)
            code = 1
        return types.SimpleNamespace(
            returncode=code, stdout=out.getvalue(), stderr=errors.getvalue()
        )

    return run


def run_command(*arguments, script):
    return subprocess.run(
        [sys.executable, f"examples/{script}.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def write_idx(folder, train=120, test=40, dotted=False):
    generator = np.random.default_rng(0)
    for stem, count in (("train", train), ("t10k", test)):
        dot = "." if dotted else "-"
        images = generator.integers(0, 256, (count, 28, 28), "uint8")
        header = struct.pack(">iiii", 0x803, count, 28, 28)
        path = folder / f"{stem}-images{dot}idx3-ubyte"
        path.write_bytes(header + images.tobytes())
        labels = generator.integers(0, 10, count).astype("uint8")
        header = struct.pack(">ii", 0x801, count)
        path = folder / f"{stem}-labels{dot}idx1-ubyte"
        path.write_bytes(header + labels.tobytes())
    return images, labels


def test_sparse_images_from_idx_files(tmp_path):
    write_idx(tmp_path)
    done = run_command(
        *("--data", tmp_path, "--epochs", 1, "--alphas", 1, 5),
        *("--output", tmp_path / "out"),
        script="sparse_images",
    )
    assert done.returncode == 0, done.stderr
    assert "120 images to train, 40 to test" in done.stdout
    assert "LeNet one-shot, alpha = 5" in done.stdout
    (folder,) = (tmp_path / "out").iterdir()
    for name in ("accuracy.png", "mask.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert name in done.stdout
    assert list((folder / "logs").rglob("events*"))


def test_idx_files_are_read_as_they_are(tmp_path):
    images, labels = write_idx(tmp_path, dotted=True)
    _, (x, y) = image_data.load_images(tmp_path)
    np.testing.assert_array_equal((x[..., 0] * 255).round(), images)
    np.testing.assert_array_equal(y, labels)


def test_embedded_images():
    (x, y), (x_test, y_test) = image_data.load_images()
    assert x.shape == (10_000, 28, 28, 1) and x_test.shape[0] == 2_000
    assert x.min() == 0 and x.max() == 1
    np.testing.assert_array_equal(np.bincount(y), [1000] * 10)
    np.testing.assert_array_equal(np.bincount(y_test), [200] * 10)
    assert image_data.EMBEDDED.stat().st_size < 6e6


def test_wrong_folders_are_answered(tmp_path, run):
    with pytest.raises(SystemExit, match="no file train-images-idx3-ubyte"):
        image_data.load_images(tmp_path)
    write_idx(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SystemExit, match="cut short"):
        image_data.load_images(tmp_path)
    path.write_bytes(b"<html>")
    with pytest.raises(SystemExit, match="not an idx file"):
        image_data.load_images(tmp_path)
    done = run("--epochs", 0, script="sparse_images")
    assert done.returncode == 2 and "at least 1" in done.stderr


def test_character_model(tmp_path, run):
    text = tmp_path / "text.txt"
    text.write_text("abracadabra, simsalabim. " * 400)
    done = run(
        "--text",
        text,
        "--steps",
        2,
        "--output",
        tmp_path / "out",
        script="character_model",
    )
    assert done.returncode == 0, done.stderr
    for name in ("gtrxl: ", "lstm: "):
        assert name in done.stdout
    sizes = [
        int(line.split()[1].replace(",", ""))
        for line in done.stdout.splitlines()
        if "parameters" in line
    ]
    assert 0.97 < sizes[1] / sizes[0] <= 1
    picture = (tmp_path / "out" / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    text.write_text("too short")
    done = run("--text", text, script="character_model")
    assert done.returncode != 0 and "has 9 characters" in done.stderr


def test_memory_agents(tmp_path, run):
    done = run(
        *("--length", 2, "--steps", 2048, "--steps-per-epoch", 1),
        *("--memories", "lstm", "--output", tmp_path),
        script="memory_agents",
    )
    assert done.returncode == 0, done.stderr
    assert "t_maze lstm seed 0: mean return" in done.stdout
    picture = (tmp_path / "t_maze-2.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_memory_agents_says_what_is_missing(monkeypatch):
    from examples import memory_agents

    for name in ("bsuite", "popgym", "minigrid"):
        monkeypatch.setitem(sys.modules, name, None)
    for task in ("memory_len", "repeat_previous", "memory_s7"):
        with pytest.raises(SystemExit, match="needs a package"):
            memory_agents.make(task, 3, 0)


def test_auxiliary_losses(tmp_path, run):
    done = run(
        *("--pairs", "near", "--epochs", 2, "--output", tmp_path),
        script="auxiliary_losses",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("near ") == 4 and "mean cosine" in done.stdout
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_mix_and_match(tmp_path, run):
    done = run(
        *("--iterations", 8, "--every", 4, "--output", tmp_path),
        script="mix_and_match",
    )
    assert done.returncode == 0, done.stderr
    assert "direct: " in done.stdout and "mix_and_match: " in done.stdout
    assert (tmp_path / "returns.png").read_bytes().startswith(b"\x89PNG")
    done = run("--iterations", 2, script="mix_and_match")
    assert done.returncode == 2 and "at least 8" in done.stderr


@pytest.mark.slow  # the notebook "agents" trains PPO in the suite
def test_tf_agents_cart_pole(tmp_path, run):
    done = run(
        *("--updates", 10, "--agents", "reinforce", "--output", tmp_path),
        script="tf_agents_cart_pole",
    )
    assert done.returncode == 0, done.stderr
    assert "reinforce: mean return of 50 episodes" in done.stdout
    assert (tmp_path / "cart_pole.png").read_bytes().startswith(b"\x89PNG")


def test_distillation(tmp_path, run):
    done = run(
        *("--variants", "value_gated+reward"),
        *("--worlds", 4, "--size", 5, "--epochs", 1, "--output", tmp_path),
        script="distillation",
    )
    assert done.returncode == 0, done.stderr
    assert "teacher: mean return" in done.stdout
    assert "value_gated+reward: mean return" in done.stdout
    assert (tmp_path / "distillation.png").read_bytes().startswith(b"\x89PNG")


def test_episodic_recall(tmp_path, run):
    done = run(
        *("--steps", 2, "--copies", 2, "--evaluation-copies", 2),
        *("--memories", "episodic", "--output", tmp_path),
        script="episodic_recall",
    )
    assert done.returncode == 0, done.stderr
    assert "barcode episodic seed 0: regret" in done.stdout
    picture = (tmp_path / "barcode.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_episodic_recall_says_what_is_missing():
    from examples import episodic_recall

    with pytest.raises(SystemExit, match="needs --folder"):
        episodic_recall.make("omniglot", 2, 0)


def test_stay_probabilities_by_hand():
    from examples import episodic_recall

    # Six trials each: after action 0 or 1, with outcome and reward.
    before = np.array([[0, 0, 1, 1, 0, 1]])
    outcomes = np.array([[0, 0, 1, 0, 1, 0]])
    rewards = np.array([[1, 1, 0, 1, 0, 0]])
    actions = np.array([[0, 1, 1, 0, 0, 1]])
    found = episodic_recall._stayed(actions, before, outcomes, rewards)
    assert found == [[0.5, 1.0], [0.0, 1.0]]


def test_meta_learning(tmp_path, run):
    done = run(
        *("--task", "markov", "--memory", "gtrxl", "--no-inspection"),
        *("--steps", 2, "--batch-size", 2, "--held-out", 4, "--units", 4),
        *("--no-jit", "--output", tmp_path),
        script="meta_learning",
    )
    assert done.returncode == 0, done.stderr
    assert "markov gtrxl seed 0:" in done.stdout
    assert "nats a step above Bayes" in done.stdout
    picture = (tmp_path / "predictor.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_default_policy(tmp_path, run):
    done = run(
        *("--sees", "uniform", "walls", "--size", 5, "--epochs", 1),
        *("--output", tmp_path),
        script="default_policy",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" over training") == 2
    assert "walls: known targets" in done.stdout
    picture = (tmp_path / "default_policy.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_mujoco_walker_says_what_is_missing(monkeypatch):
    import gymnasium

    from examples import mujoco_walker

    def make(name):
        raise gymnasium.error.DependencyNotInstalled("no mujoco")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(SystemExit, match=r"gymnasium\[mujoco\]"):
        mujoco_walker.make("Ant-v5")


def test_mujoco_walker_is_paid_for_coming_closer():
    import types

    import gymnasium

    from examples import mujoco_walker

    class Point(gymnasium.Env):
        """A body that is its place."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        action_space = gymnasium.spaces.Box(-1, 1, (2,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.data = types.SimpleNamespace(qpos=np.zeros(3))
            return self.data.qpos[:2].copy(), {}

        def step(self, action):
            self.data.qpos[:2] += action
            return 100 * self.data.qpos[:2], 7.0, False, False, {}

    walker = mujoco_walker.ToTarget(Point(), distance=2.0)
    seen, _ = walker.reset(seed=0)
    assert np.linalg.norm(seen["target"]) == pytest.approx(2)
    way = seen["target"] / 2
    seen, reward, terminated, *_ = walker.step(way)
    assert reward == pytest.approx(1) and not terminated
    assert np.abs(seen["body"]).max() <= 10
    assert walker.observation_space.contains(seen)
    _, reward, terminated, *_ = walker.step(way)
    assert reward == pytest.approx(2) and terminated
