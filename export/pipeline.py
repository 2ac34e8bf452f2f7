"""A training run in, a checked ONNX file with its card out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from export.calibrate import confidence_threshold, fit_temperature
from export.card import score_splits, write_model
from export.compress import compress
from export.convert import convert
from export.verify import COMPRESSION_FACES, verify_compression, verify_parity
from fer2013.reader import Fer2013, Split
from service.card import ModelCard
from training.evaluate import BATCH, open_onnx
from training.holdout import split_training
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
    int8: bool,
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
        int8: Store the weights as int8.
        log: Takes a line a step.

    Raises:
        ExportError: Unknown model, or a run of another one.
        RunError: The run has no weights that fit its network.
        ParityError: The ONNX graph answers otherwise than Keras; nothing was written.
        CompressionError: int8 weights change the answers too much; nothing was written.
    """
    if name not in DESCRIPTIONS:
        raise ExportError(f"unknown model {name!r}; known: {', '.join(DESCRIPTIONS)}")
    folder = RunFolder(run)
    keras.config.set_dtype_policy("float32")
    network = load_network(folder)
    description = folder.read_description()
    if description["recipe"]["network"] != name:
        raise ExportError(f"{run}: a run of {description['recipe']['network']}, not of {name}")
    calibration = _calibrate(network, dataset.train, description, mirror)
    log(f"temperature {calibration.temperature:.3f}, threshold {calibration.threshold:.3f}")
    settings = {"mirror": mirror, "temperature": calibration.temperature}
    model = convert(network, **settings)
    difference = verify_parity(
        network, model, _spread(dataset.test, PARITY_FACES).faces, **settings
    )
    log(f"parity with Keras at batch 1 and 7: largest difference of a probability {difference:.2g}")
    if int8:
        small, some = compress(model), _spread(dataset.train, COMPRESSION_FACES)
        move, change = verify_compression(model, small, some.faces, some.labels)
        log(f"int8 weights: a probability moved by up to {move:.4f}, the accuracy by {change:+.2%}")
        model = small
    scores = score_splits(open_onnx(model.SerializeToString()), dataset)
    card = {
        "name": name,
        "version": version,
        "description": DESCRIPTIONS[name],
        "parameters": network.count_params(),
        "training": description | {"epochs": len(folder.read_history())},
        "temperature": calibration.temperature,
        "low_confidence_threshold": calibration.threshold,
        "mirror_averaging": mirror,
    }
    return write_model(model, out, card, scores)


def _spread(split: Split, count: int) -> Split:
    """Takes so many faces from all over a split: files are sorted by emotion."""
    return split.take(np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64))


@dataclass(frozen=True)
class Calibration:
    """What goes into the graph and the card.

    Attributes:
        temperature: Divisor of the logits.
        threshold: Least confidence of an answer without ``low_confidence``.
    """

    temperature: float = 1.0
    threshold: float = 0.5


def _calibrate(
    network: keras.Model, train: Split, description: dict[str, Any], mirror: bool
) -> Calibration:
    """Fits temperature and threshold on a run's hold-out; without one nothing can be fitted."""
    share = description.get("holdout_share")
    if not share:
        return Calibration()
    _, holdout = split_training(train, share, description["limit"], description["seed"])
    views = [holdout.faces, holdout.faces[:, :, ::-1]] if mirror else [holdout.faces]
    logits = [network.predict(view, batch_size=BATCH, verbose=0) for view in views]
    temperature = fit_temperature(logits, holdout.labels)
    probabilities = np.mean([softmax(view / temperature, axis=1) for view in logits], axis=0)
    return Calibration(temperature, confidence_threshold(probabilities, holdout.labels))
