import json
import os
import pathlib
import warnings

import numpy as np


class StepJournal:
    """A few numbers for each step of the last two epochs, in a file.

    For the state of a callback that must go on where a saved model does:
    variables of its own would not fit into the model's files.

    Args:
        path: path of the file.
    """

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self._last_epoch = 0

    def start(self, step, shapes):
        """What was written at `step`; what came later is dropped.

        Args:
            step: int, where training goes on.
            shapes: list of tuples of int, those of the values.

        Returns:
            The values, or None if there are none.
        """
        kept, values = [], None
        found_file = step > 0 and self._path.exists()
        damage = ""
        for number, line in enumerate(self._lines() if found_file else [], 1):
            found = _read(line, shapes)
            if found is None:
                damage = f" (line {number} is damaged)"
                continue
            kept.append(line)
            if found[0] == step:
                values = found[1:]
                break
        if found_file and values is None:
            warnings.warn(
                f"`state_file` {self._path}{damage} says nothing about step "
                f"{step}: the averages start anew. To go on from those of "
                "that step put back the file that was saved with the weights.",
                stacklevel=2,
            )
            kept = []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._replace(kept)
        self._last_epoch = 0
        return values

    def write(self, step, values):
        """Adds a line.

        Args:
            step: int.
            values: list of what JSON can hold.
        """
        with self._path.open("a") as file:
            file.write(json.dumps([step, *values]) + "\n")

    def end_epoch(self):
        """Forgets the epoch before the last."""
        lines = self._lines()[self._last_epoch :]
        self._replace(lines)
        self._last_epoch = len(lines)

    def remove(self):
        """Removes the file."""
        self._path.unlink(missing_ok=True)

    def _lines(self):
        return self._path.read_text().splitlines(True)

    def _replace(self, lines):
        """Writes the file whole: nobody ever finds half of it."""
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text("".join(lines))
        os.replace(new, self._path)


def _read(line, shapes):
    """The step of a line and its values, or None where it is damaged."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(found, list) or not found:
        return None
    return found if [np.shape(v) for v in found[1:]] == shapes else None
