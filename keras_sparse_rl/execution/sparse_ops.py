"""The C++ ops of sparse execution: compiled on first use, then cached."""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import warnings

import tensorflow as tf

_SOURCE = pathlib.Path(__file__).with_name("sparse_ops.cc")
_FLAGS = [
    "-O3",
    "-w",
    "-fPIC",
    "-shared",
    # What headers define stays inside: TensorFlow's own copies were compiled
    # for other processors. Eigen's vector code is neither used nor portable.
    "-fvisibility=hidden",
    "-DEIGEN_DONT_VECTORIZE",
]
_TUNING = {"x86_64": "-march=native", "AMD64": "-march=native"}
_DIGEST_SIZE = 32


@functools.cache
def load_sparse_ops():
    """The compiled ops, or None where they cannot be had.

    The first call on a machine compiles `sparse_ops.cc` with its C++ compiler
    (`$CXX`, `g++`, `clang++` or `c++`; 20 seconds) and keeps the result in
    `$XDG_CACHE_HOME/keras_sparse_rl` (`~/.cache` by default), for this version
    of TensorFlow and this processor. Call it before `tf.saved_model.load` of a
    model with sparse layers.

    Returns:
        The module of `tf.load_op_library`, or None, with a warning that says
        what to install.

    Example:

    >>> from keras_sparse_rl.sparsity import load_sparse_ops
    >>> ops = load_sparse_ops()
    >>> ops is None or hasattr(ops, "keras_sparse_rl_matmul")
    True
    """
    compiler = _compiler()
    try:
        path = _library(compiler)
        return tf.load_op_library(str(path))
    except (OSError, subprocess.SubprocessError, tf.errors.OpError) as error:
        if compiler is None:
            reason = "no C++ compiler was found"
        else:
            output = getattr(error, "stderr", None) or str(error)
            reason = f"{compiler} failed: {output.strip()[-500:]}"
        warnings.warn(
            "Sparse layers run as masked dense products, which are exact but "
            f"not faster than dense layers: {reason}. Install g++ (Debian and "
            "Ubuntu: apt install g++; macOS: xcode-select --install) or set "
            "the environment variable CXX, and start Python again.",
            stacklevel=2,
        )
        return None


def _library(compiler):
    """Path of the library, compiled if it is not there whole."""
    tuning = _TUNING.get(platform.machine(), "-mcpu=native")
    key = hashlib.sha256(
        "\0".join(
            [
                _SOURCE.read_text(),
                tf.__version__,
                tf.sysconfig.get_lib(),
                platform.machine(),
                _processor(),
                *_FLAGS,
            ]
        ).encode()
    ).hexdigest()[:16]
    folder = _cache_folder()
    path = folder / f"sparse_ops-{tf.__version__}-{key}.so"
    if _is_whole(path):
        return path
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    with _lock(folder / f"{path.name}.lock"):
        # Another process may have compiled it meanwhile.
        if not _is_whole(path):
            _compile(compiler, tuning, path)
    return path


def _compile(compiler, tuning, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = pathlib.Path(folder) / path.name
        command = [
            compiler,
            *_FLAGS,
            *tf.sysconfig.get_compile_flags(),
            str(_SOURCE),
            "-o",
            str(new),
            *tf.sysconfig.get_link_flags(),
        ]
        run = functools.partial(
            subprocess.run, check=True, capture_output=True, text=True
        )
        try:
            run([*command, tuning])
        except subprocess.CalledProcessError:
            run(command)  # Not every compiler knows every processor.
        data = new.read_bytes()
        # A library cut short would kill the process that opens it: the
        # digest behind it says whether it is whole.
        new.write_bytes(data + hashlib.sha256(data).digest())
        os.replace(new, path)


def _is_whole(path):
    try:
        data = path.read_bytes()
    except OSError:
        return False
    library, digest = data[:-_DIGEST_SIZE], data[-_DIGEST_SIZE:]
    return hashlib.sha256(library).digest() == digest


def _compiler():
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def _cache_folder():
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(root) / "keras_sparse_rl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return pathlib.Path(tempfile.mkdtemp(prefix="keras_sparse_rl-"))


@contextlib.contextmanager
def _lock(path):
    """Lets one process at a time compile, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        # Some network file systems have none; then both compile.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _processor():
    """What the processor can do, as the operating system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    marks = ("flags", "Features", "CPU part")
    return "\n".join(sorted({x for x in lines if x.startswith(marks)}))
