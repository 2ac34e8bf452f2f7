"""A training run in, a checked ONNX file with its card out."""

import json
from collections.abc import Callable
from pathlib import Path

import keras

from export.card import score_splits, write_model
from export.convert import convert
from export.verify import verify_parity
from fer2013.reader import Fer2013
from service.card import ModelCard
from training.evaluate import open_onnx
from training.train import RunFolder, build_network

DESCRIPTIONS = {
    "custom_cnn": "Custom CNN on 48×48 grey faces, trained from scratch on FER2013",
}

PARITY_FACES = 70


class ExportError(RuntimeError):
    """The run cannot be exported; the message says what is missing."""


def export_run(
    name: str,
    run: Path,
    dataset: Fer2013,
    out: Path,
    *,
    version: str,
    mirror: bool,
    log: Callable[[str], None],
) -> ModelCard:
    """Exports a run's best weights, checks them against Keras and measures every split.

    Args:
        name: The model, a key of :data:`DESCRIPTIONS`.
        run: The run's folder.
        dataset: FER2013.
        out: Where ``<name>.onnx`` and ``<name>.json`` go.
        version: Goes into the card.
        mirror: Average each face with its mirror image.
        log: Takes a line a step.

    Raises:
        ExportError: Unknown model, no weights, or weights of another network.
        ParityError: The ONNX graph answers otherwise than Keras; nothing was written.
    """
    folder = RunFolder(run)
    if name not in DESCRIPTIONS:
        raise ExportError(f"unknown model {name!r}; known: {', '.join(DESCRIPTIONS)}")
    if not folder.weights.exists() or not folder.description.exists():
        raise ExportError(f"{run}: no {folder.weights.name} with {folder.description.name}")
    description = json.loads(folder.description.read_text(encoding="utf-8"))
    keras.config.set_dtype_policy("float32")
    network = build_network(name)
    try:
        network.load_weights(folder.weights)
    except (ValueError, OSError) as error:
        raise ExportError(f"{folder.weights}: not weights of {name} ({error})") from error
    model = convert(network, mirror=mirror)
    difference = verify_parity(network, model, dataset.test.faces[:PARITY_FACES], mirror=mirror)
    log(f"parity with Keras at batch 1 and 7: largest difference of a probability {difference:.2g}")
    scores = score_splits(open_onnx(model.SerializeToString()), dataset)
    card = {
        "name": name,
        "version": version,
        "description": DESCRIPTIONS[name],
        "parameters": network.count_params(),
        "training": description,
        "temperature": 1.0,
        "low_confidence_threshold": 0.5,
        "mirror_averaging": mirror,
    }
    return write_model(model, out, card, scores)
