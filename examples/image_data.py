"""Real images for the examples and benchmarks: embedded, idx files, Keras."""

import gzip
import pathlib

import numpy as np

EMBEDDED = pathlib.Path(__file__).parent / "data" / "fashion_mnist_12000.npz"

_IDX_FILES = (
    ("train-images", "idx3"),
    ("train-labels", "idx1"),
    ("t10k-images", "idx3"),
    ("t10k-labels", "idx1"),
)


def load_images(data="embedded"):
    """Loads images in [0, 1] with their classes.

    Args:
        data: "embedded" for 10,000 + 2,000 images of Fashion-MNIST in this
            repository, "keras" for keras.datasets.fashion_mnist (downloads),
            or a folder with the four idx files of MNIST or Fashion-MNIST,
            packed with gzip or not.

    Returns:
        Two tuples `(x, y)`, to train and to test: `x` float32
        `(count, 28, 28, 1)`, `y` int32 `(count,)`.
    """
    if data == "embedded":
        with np.load(EMBEDDED) as arrays:
            x, y = arrays["images"], arrays["labels"]
        parts = (x[:10_000], y[:10_000]), (x[10_000:], y[10_000:])
    elif data == "keras":
        import keras

        parts = keras.datasets.fashion_mnist.load_data()
    else:
        arrays = [_read_idx(_find(data, *name)) for name in _IDX_FILES]
        parts = (arrays[0], arrays[1]), (arrays[2], arrays[3])
    return tuple(
        (x[..., None].astype("float32") / 255, y.astype("int32"))
        for x, y in parts
    )


def _find(folder, stem, kind):
    """The idx file, in any of the spellings it is distributed under."""
    folder = pathlib.Path(folder)
    for separator in ("-", "."):
        for ending in ("", ".gz"):
            path = folder / f"{stem}{separator}{kind}-ubyte{ending}"
            if path.is_file():
                return path
    raise SystemExit(
        f"--data {folder}: no file {stem}-{kind}-ubyte, packed or not. Give "
        "a folder with the four idx files of MNIST or Fashion-MNIST, 'keras' "
        "to download Fashion-MNIST, or 'embedded' for the images that come "
        "with this repository."
    )


def _read_idx(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = file.read()
    axes = content[3]
    if content[:3] != b"\x00\x00\x08" or axes not in (1, 3):
        raise SystemExit(
            f"{path} is not an idx file of bytes (it starts with "
            f"{content[:4]!r}). Download it again."
        )
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    values = np.frombuffer(content, "uint8", offset=4 + 4 * axes)
    if values.size != shape.prod():
        raise SystemExit(
            f"{path} is cut short: {values.size} values instead of "
            f"{shape.prod()}. Download it again."
        )
    return values.reshape(shape)
