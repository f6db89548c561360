import functools
import pathlib
import re
import zipfile

import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_integer

# alphabet/characterNN/NNNN_MM.png, at whatever depth
_DRAWING = re.compile(r"(?:^|/)([^/]+/character\d+)/[^/]+\.png$")


def load_omniglot(folder, size=28):
    """Hand-drawn characters of many alphabets, as an array.

    See "Human-level concept learning through probabilistic program induction"
    by Lake et al. 2015; the images are those of
    https://github.com/brendenlake/omniglot, which this package does not
    contain.

    Args:
        folder: path with Omniglot's images as they are published: folders
            `alphabet/characterNN` of PNG files, or the zip files of them.
        size: int, pixels a side of what is returned.

    Returns:
        uint8 array `(characters, drawings, size, size)`, 255 where there is
        ink. Characters with fewer drawings than the others are left out.

    Raises:
        ValueError: if the folder is missing, or is none of Omniglot.

    Example:

    >>> from keras_sparse_rl.environments import load_omniglot
    >>> load_omniglot("nowhere")
    Traceback (most recent call last):
    ValueError: `folder` must be a folder of Omniglot's images...
    """
    folder = pathlib.Path(folder).expanduser()
    return _load(folder.resolve(), check_integer("size", size))


@functools.lru_cache(maxsize=2)
def _load(folder, size):
    characters = {}
    if folder.is_dir():
        for path in sorted(folder.rglob("*.png")):
            _add(characters, path.as_posix(), path.read_bytes)
        for path in sorted(folder.glob("*.zip")):
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    _add(
                        characters,
                        f"{path.stem}/{name}",
                        functools.partial(archive.read, name),
                    )
    if not characters:
        raise ValueError(
            "`folder` must be a folder of Omniglot's images, "
            "alphabet/characterNN/*.png or zip files of them "
            "(images_background.zip of github.com/brendenlake/omniglot). "
            f"Received: folder={str(folder)!r}, which "
            + (
                "has no such images."
                if folder.is_dir()
                else "is no folder that exists."
            )
        )
    number = max(map(len, characters.values()))
    images = [x for x in characters.values() if len(x) == number]
    images = tf.reshape(tf.constant(images), (-1,))
    return _decode(images, size).numpy().reshape(-1, number, size, size)


def _add(characters, name, read):
    match = _DRAWING.search(name)
    if match:
        # The same alphabet may come in several archives.
        key = name[: match.end(1)]
        characters.setdefault(key, []).append(read())


@tf.function(autograph=False)
def _decode(files, size):
    def image(file):
        pixels = tf.io.decode_png(file, channels=1)
        ink = 255.0 - tf.cast(pixels, tf.float32)
        small = tf.image.resize(ink, (size, size), method="area")
        return tf.cast(tf.round(small), tf.uint8)[..., 0]

    return tf.map_fn(image, files, fn_output_signature=tf.uint8)


def check_characters(characters, available):
    """Returns which characters are meant, an int32 array."""
    if characters is None:
        return np.arange(available, dtype=np.int32)
    chosen = np.asarray(list(characters))
    if (
        chosen.ndim != 1
        or not np.issubdtype(chosen.dtype, np.integer)
        or not chosen.size
        or chosen.min() < 0
        or chosen.max() >= available
    ):
        raise ValueError(
            "`characters` must be whole numbers from 0 to "
            f"{available - 1}, the characters in the folder. Received: "
            f"characters={characters!r}."
        )
    return chosen.astype(np.int32)
