import json
import pathlib
import warnings


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

    def start(self, step):
        """What was written at `step`; what came later is dropped.

        Args:
            step: int, where training goes on.

        Returns:
            The values, or None if there are none.
        """
        kept, values = [], None
        found_file = step > 0 and self._path.exists()
        lines = self._lines() if found_file else []
        for line in lines:
            kept.append(line)
            found, *rest = json.loads(line)
            if found == step:
                values = rest
                break
        if found_file and values is None:
            warnings.warn(
                f"{self._path} says nothing about step {step}: the averages "
                "start anew.",
                stacklevel=2,
            )
            kept = []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(kept))
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
        self._path.write_text("".join(lines))
        self._last_epoch = len(lines)

    def remove(self):
        """Removes the file."""
        self._path.unlink(missing_ok=True)

    def _lines(self):
        return self._path.read_text().splitlines(True)
