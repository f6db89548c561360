import json
import os
import pathlib

import numpy as np


class PopulationStore:
    """A population in a folder: written whole, or not at all.

    Args:
        directory: path.
    """

    def __init__(self, directory):
        self._folder = pathlib.Path(directory)
        self._index = self._folder / "population.json"

    def exists(self):
        """Whether there is a population."""
        return self._index.exists()

    def read(self, settings):
        """Population and history, if they are of these settings."""
        found = json.loads(self._index.read_text())
        if found["settings"] != settings:
            raise ValueError(
                f"`directory`={str(self._folder)!r} holds another population: "
                f"{found['settings']}. Received: {settings}. Choose another "
                "directory, or give the same arguments."
            )
        for member in found["population"]:
            with np.load(self._folder / member["state"]) as arrays:
                member["state"] = [
                    arrays[f"arr_{n}"] for n in range(len(arrays))
                ]
        return found["population"], found["history"]

    def write(self, settings, population, history, number):
        """Replaces what is there by the population after round `number`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        old = set(self._folder.glob("round-*.npz"))
        named = []
        for k, member in enumerate(population):
            name = f"round-{number}-member-{k}.npz"
            np.savez(self._folder / name, *member["state"])
            named.append({**member, "state": name})
        index = {
            "settings": settings,
            "population": named,
            "history": history,
        }
        temporary = self._folder / "population.json.new"
        temporary.write_text(json.dumps(index, indent=1) + "\n")
        os.replace(temporary, self._index)
        for path in old - {self._folder / m["state"] for m in named}:
            path.unlink()
