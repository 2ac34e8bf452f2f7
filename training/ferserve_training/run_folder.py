"""The files of a training run, and networks read from them."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import keras
from ferserve.card import Answers

from ferserve_training import TrainingError
from ferserve_training.networks import build_network
from ferserve_training.networks.layers import select_head

HEADS: tuple[Answers, ...] = get_args(Answers)
"""What the heads of a network answer with, in their order; a run without votes has the first."""


class RunFolder:
    """The files of one run: what it was asked for, a row an epoch, best weights, Keras' backup."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weights = root / "best.weights.h5"
        self.description = root / "run.json"
        self.history = root / "history.csv"
        self.checkpoint = root / "checkpoint"

    def open(self, description: dict[str, Any], resume: bool) -> None:
        """Starts the folder, or goes on with its run; TrainingError where that is another one."""
        started = self.description.exists()
        if started and not resume:
            raise TrainingError(
                f"{self.root} holds a run; go on with --resume, or give another --out"
            )
        if resume and not started:
            raise TrainingError(f"{self.root} holds no run to resume")
        if not resume:
            if self.checkpoint.exists():
                raise TrainingError(f"{self.checkpoint} is there already; give another --out")
            self.root.mkdir(parents=True, exist_ok=True)
            text = json.dumps(description, indent=2)
            self.description.write_text(text + "\n", encoding="utf-8")
            return
        earlier = self.read_description()
        now = json.loads(json.dumps(description))
        # Earlier versions did not describe all of it; and a card may learn who has seen what.
        now.pop("holdout_seen_by", None)
        changed = [key for key in now if now[key] != earlier.get(key, now[key])]
        if changed:
            raise TrainingError(f"{self.root} was started with another {', '.join(changed)}")
        if not self.read_history():  # Keras cannot read a first checkpoint that was cut short
            shutil.rmtree(self.checkpoint, ignore_errors=True)
        elif not self.checkpoint.exists():  # it would begin anew, over the weights of this run
            raise TrainingError(f"{self.checkpoint} is gone: the run cannot go on")

    def read_description(self) -> dict[str, Any]:
        """Reads what :meth:`open` wrote."""
        return json.loads(self.description.read_text(encoding="utf-8"))

    def answers(self) -> tuple[Answers, ...]:
        """Returns what the run's heads answer with: labels, and votes if it learned from them."""
        return HEADS if self.read_description()["recipe"].get("votes") else HEADS[:1]

    def read_history(self) -> list[dict[str, str]]:
        """Reads the rows of ``history.csv``; none before the first epoch's end."""
        if not self.history.exists():
            return []
        with self.history.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def load_network(folder: RunFolder, answers: Answers = "FER2013 labels") -> keras.Model:
    """Builds the network that a run trained, with its best weights, under the dtype policy set.

    Args:
        folder: The run.
        answers: What its head answers with; votes only of a run that learned from them.

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
    heads = folder.answers()
    if answers not in heads:
        raise TrainingError(f"{folder.root}: it learned from no votes; train with --votes")
    sharpen = recipe.get("sharpen", False)  # earlier versions did not say
    network = build_network(recipe["network"], sides[-1], len(heads), sharpen=sharpen)
    try:
        network.load_weights(folder.weights)
    except (ValueError, OSError) as error:
        raise TrainingError(
            f"{folder.weights}: not weights of {recipe['network']} ({error})"
        ) from error
    return network if len(heads) == 1 else select_head(network, heads.index(answers))
