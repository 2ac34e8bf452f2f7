"""The files of a training run, and networks read from them."""

import csv
import json
from pathlib import Path
from typing import Any

import keras

from ferserve_training import TrainingError
from ferserve_training.networks import build_network
from ferserve_training.networks.layers import select_head


class RunFolder:
    """The files of one run: what it was asked for, a row an epoch, best weights, Keras' backup."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weights = root / "best.weights.h5"
        self.description = root / "run.json"
        self.history = root / "history.csv"
        self.checkpoint = root / "checkpoint"

    def open(self, description: dict[str, Any], resume: bool) -> None:
        """Starts the folder, or checks that the run in it is the one described.

        Raises:
            TrainingError: It is not as ``resume`` says, or was started with other settings.
        """
        started = self.description.exists()
        if started and not resume:
            raise TrainingError(
                f"{self.root} holds a run; go on with --resume, or give another --out"
            )
        if resume and not started:
            raise TrainingError(f"{self.root} holds no run to resume")
        if not resume:
            self.root.mkdir(parents=True, exist_ok=True)
            text = json.dumps(description, indent=2)
            self.description.write_text(text + "\n", encoding="utf-8")
            return
        earlier = self.read_description()
        now = json.loads(json.dumps(description))
        # Earlier versions did not describe all of it.
        changed = [key for key in now if now[key] != earlier.get(key, now[key])]
        if changed:
            raise TrainingError(f"{self.root} was started with another {', '.join(changed)}")

    def read_description(self) -> dict[str, Any]:
        """Reads what :meth:`open` wrote."""
        return json.loads(self.description.read_text(encoding="utf-8"))

    def has_votes(self) -> bool:
        """Tells whether the run learned from votes too, and so has a second head."""
        return bool(self.read_description()["recipe"].get("votes"))

    def read_history(self) -> list[dict[str, str]]:
        """Reads the rows of ``history.csv``; none before the first epoch's end."""
        if not self.history.exists():
            return []
        with self.history.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def load_network(folder: RunFolder, head: int = 0) -> keras.Model:
    """Builds the network that a run trained, with its best weights, under the dtype policy set.

    Args:
        folder: The run.
        head: 0 answers with the labels; 1, of a run that learned from votes, as people would.

    Raises:
        TrainingError: There are no weights, the folder is of another version, or it has no such
            head.
    """
    if not folder.weights.exists() or not folder.description.exists():
        raise TrainingError(
            f"{folder.root}: no {folder.weights.name} with {folder.description.name}"
        )
    recipe = folder.read_description()["recipe"]
    sides = recipe.get("sides") or [None]
    heads = 2 if folder.has_votes() else 1
    if head >= heads:
        raise TrainingError(f"{folder.root}: it learned from no votes; train with --votes")
    network = build_network(recipe["network"], sides[-1], heads)
    try:
        network.load_weights(folder.weights)
    except (ValueError, OSError) as error:
        raise TrainingError(
            f"{folder.weights}: not weights of {recipe['network']} ({error})"
        ) from error
    return network if heads == 1 else select_head(network, head)
