"""Networks to be exported: from a training run, or anew from a released file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ferserve.models import read_card
from ferserve_training.callbacks import STATISTICS_FACES
from ferserve_training.released import read_released
from ferserve_training.run_folder import RunFolder, build_network, load_network


@dataclass(frozen=True)
class Trained:
    """A network with what its card will say of its training.

    Attributes:
        network: From uint8 faces ``[N, 48, 48]`` to logits ``[N, 7]``, in float32.
        description: As ``run.json``, with the number of ``epochs``.
        history: The run's ``history.csv``, where it is known.
    """

    network: keras.Model
    description: dict[str, Any]
    history: Path | None


def open_trained(source: Path, faces: np.ndarray) -> Trained:
    """Opens a network under the dtype policy float32.

    Args:
        source: Folder of a run; or a released ``<name>.onnx`` with its card, which an export that
            calibrates otherwise than the last takes when the run is no longer there.
        faces: Training faces uint8 ``[N, 48, 48]`` in any order; see ``read_released``.

    Raises:
        TrainingError: The run has no weights that fit its network.
        ModelError: The released file has no card.
        TrainingError: It is not an export of the network that the card names.
    """
    keras.config.set_dtype_policy("float32")
    if source.suffix != ".onnx":
        run = RunFolder(source)
        network = load_network(run)
        epochs = {"epochs": len(run.read_history())}
        return Trained(network, run.read_description() | epochs, run.history)
    description = read_card(source.parent, source.stem).training
    recipe = description["recipe"]
    name, side = recipe["network"], (recipe.get("sides") or [None])[-1]
    some = np.random.default_rng(0).permutation(faces)[:STATISTICS_FACES]
    network = build_network(name, side)
    network.set_weights(read_released(source, name, side, some))
    return Trained(network, description, None)
