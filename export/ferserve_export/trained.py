"""Networks to be exported: from a training run, or anew from a released file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
from ferserve.card import Answers
from ferserve.models import read_card
from ferserve_training.callbacks import STATISTICS_FACES
from ferserve_training.errors import TrainingError
from ferserve_training.released import read_released
from ferserve_training.run_folder import RunFolder, build_network, load_network


@dataclass(frozen=True)
class Trained:
    """A network with what its card will say of its training.

    Attributes:
        network: From uint8 faces ``[N, 48, 48]`` to logits ``[N, 7]``, in float32.
        description: As ``run.json``, with the number of ``epochs`` and the ``hours`` they took.
        history: The run's ``history.csv``, where it is known.
    """

    network: keras.Model
    description: dict[str, Any]
    history: Path | None


HEADS: tuple[Answers, ...] = get_args(Answers)
"""What each head of a network answers with, in their order."""


def open_trained(source: Path, faces: np.ndarray, answers: Answers) -> Trained:
    """Opens a network under the dtype policy float32.

    Args:
        source: Folder of a run; or a released ``<name>.onnx`` with its card, which an export that
            calibrates otherwise than the last takes when the run is no longer there.
        faces: Training faces uint8 ``[N, 48, 48]`` in any order; see ``read_released``.
        answers: What the network shall answer with.

    Raises:
        TrainingError: The run has no weights that fit its network, or no such answers.
        ModelError: The released file has no card.
        TrainingError: It is not an export of the network that the card names.
    """
    keras.config.set_dtype_policy("float32")
    if source.suffix != ".onnx":
        run = RunFolder(source)
        network = load_network(run, HEADS.index(answers))
        rows = run.read_history()
        hours = round(sum(float(row["seconds"]) for row in rows) / 3600, 2)
        done = {"epochs": len(rows), "hours": hours}
        return Trained(network, run.read_description() | done, run.history)
    card = read_card(source.parent, source.stem)
    if card.answers != answers:
        raise TrainingError(f"{source}: answers with {card.answers}, not with {answers}")
    if card.prior_fraction:
        raise TrainingError(f"{source}: its logits are adjusted already; export it from its run")
    description = card.training
    recipe = description["recipe"]
    name, side = recipe["network"], (recipe.get("sides") or [None])[-1]
    some = np.random.default_rng(0).permutation(faces)[:STATISTICS_FACES]
    network = build_network(name, side)
    network.set_weights(read_released(source, name, side, some))
    return Trained(network, description, None)
