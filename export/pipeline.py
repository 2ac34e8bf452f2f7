"""A training run in, a checked ONNX file with its card out."""

from collections.abc import Callable
from pathlib import Path

import keras

from export.card import score_splits, write_model
from export.convert import convert
from export.verify import verify_parity
from fer2013.reader import Fer2013
from service.card import ModelCard
from training.evaluate import open_onnx
from training.run_folder import RunFolder, load_network

DESCRIPTIONS = {
    "custom_cnn": "Custom CNN on 48×48 grey faces, trained from scratch on FER2013",
    "vgg16": "VGG16 pretrained on ImageNet, fine-tuned on FER2013",
    "resnet50v2": "ResNet50V2 pretrained on ImageNet, fine-tuned on FER2013",
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
        ExportError: Unknown model, or a run of another one.
        RunError: The run has no weights that fit its network.
        ParityError: The ONNX graph answers otherwise than Keras; nothing was written.
    """
    if name not in DESCRIPTIONS:
        raise ExportError(f"unknown model {name!r}; known: {', '.join(DESCRIPTIONS)}")
    folder = RunFolder(run)
    keras.config.set_dtype_policy("float32")
    network = load_network(folder)
    description = folder.read_description()
    if description["recipe"]["network"] != name:
        raise ExportError(f"{run}: a run of {description['recipe']['network']}, not of {name}")
    epochs = len(folder.read_history())
    model = convert(network, mirror=mirror)
    difference = verify_parity(network, model, dataset.test.faces[:PARITY_FACES], mirror=mirror)
    log(f"parity with Keras at batch 1 and 7: largest difference of a probability {difference:.2g}")
    scores = score_splits(open_onnx(model.SerializeToString()), dataset)
    card = {
        "name": name,
        "version": version,
        "description": DESCRIPTIONS[name],
        "parameters": network.count_params(),
        "training": description | {"epochs": epochs},
        "temperature": 1.0,
        "low_confidence_threshold": 0.5,
        "mirror_averaging": mirror,
    }
    return write_model(model, out, card, scores)
