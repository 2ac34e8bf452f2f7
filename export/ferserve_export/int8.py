"""A released model in, what it needs to compute in int8 out, and how well it does then."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
from ferserve.bundle import INPUT, OUTPUT, load_bundle, read_card
from ferserve.card import Int8Card, ModelCard
from ferserve.ensemble import EnsembleBundle, load_bundles
from ferserve.fer2013.reader import Fer2013
from ferserve.fer2013.splits import evaluation_splits
from ferserve.runtime.int8 import OPERATORS, with_constants_folded
from ferserve.runtime.options import RuntimeOptions
from ferserve.runtime.sessions import Sessions
from ferserve.settings import usable_cpus
from ferserve_training.evaluate import evaluate, sample
from ferserve_training.predictions import Predict, RememberedPredictions
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from ferserve_export.card import split_metrics

IMAGES = 512
"""Training images from which ranges are taken."""

IMAGES_PER_EXTREME = 16
"""See :func:`measure_ranges`."""


def quantize(
    name: str, folder: Path, dataset: Fer2013, *, images: int, log: Callable[[str], None]
) -> Int8Card:
    """Writes ``int8/<name>.json``: ranges from Training images, figures of all test splits.

    Args:
        name: A model, or an ensemble whose members have theirs already.
        folder: Where models and cards are.
        dataset: FER2013.
        images: How many Training images the ranges are taken from.
        log: Takes a line a step.

    Raises:
        ModelError: The model cannot be served, in float32 or in int8.
    """
    card = read_card(folder, name)
    options = RuntimeOptions(provider="cpu", intra_op_threads=usable_cpus(), precision="int8")
    plain = load_bundles(folder, [name], **asdict(replace(options, precision="float32")))[name]
    if card.members:
        draft, predict = _ensemble(card, folder, options)
    else:
        draft, predict = _model(card, folder, options, sample(dataset.train, images).faces)
        log(f"{len(draft.ranges)} ranges from {draft.images} images")
    converted = RememberedPredictions(predict)
    splits = [split for split in evaluation_splits(dataset) if split != "train"]
    report = evaluate(converted, dataset, splits)
    before = RememberedPredictions(plain.predict)(dataset.test.faces).argmax(axis=1)
    same = before == converted(dataset.test.faces).argmax(axis=1)
    figures = {"metrics": split_metrics(report), "same_answer": float(np.mean(same))}
    written = Int8Card(**draft.model_dump() | figures)
    written.write(folder / "int8" / f"{name}.json")
    for split, scores in written.metrics.items():
        if stated := card.metrics.get(split):
            log(f"{split}: {stated.accuracy:.2%} → {scores.accuracy:.2%} right")
    log(f"{written.same_answer:.2%} of the test images are answered as before")
    return written


def _model(
    card: ModelCard, folder: Path, options: RuntimeOptions, faces: np.ndarray
) -> tuple[Int8Card, Predict]:
    """Returns a card whose figures are still those in float32, and what it describes."""
    content = (folder / f"{card.name}.onnx").read_bytes()
    ranges = measure_ranges(content, faces)
    session = Sessions(content, f"{card.name}.onnx", options, ranges).any_size
    draft = Int8Card(
        sha256=card.sha256, images=len(faces), ranges=ranges, metrics=card.metrics, same_answer=1
    )
    return draft, lambda faces: session.run([OUTPUT], {INPUT: faces})[0]


def _ensemble(card: ModelCard, folder: Path, options: RuntimeOptions) -> tuple[Int8Card, Predict]:
    """As ``_model``."""
    names = [part.name for part in card.members or ()]
    members = {name: load_bundle(folder, name, **asdict(options)) for name in names}
    draft = Int8Card(
        sha256=card.sha256,
        images=0,
        ranges={},
        members={name: member.card.sha256 for name, member in members.items()},
        metrics=card.metrics,
        same_answer=1,
    )
    return draft, EnsembleBundle(card.in_int8(draft), members).predict


def measure_ranges(content: bytes, faces: np.ndarray) -> dict[str, tuple[float, float]]:
    """Finds the least and greatest values around a model's convolutions.

    Of every 16 faces the least and the greatest are taken, and of these the mean: FER2013 has
    pictures that are no faces, and one of them can widen a range so that all others get too few
    steps. On 1,500 other Training images ResNet50V2 answered 97.6 % as in float32, with the least
    and the greatest of all 512 images 93.1 %; the largest move of a probability fell from 0.33 to
    0.07, with the Custom CNN from 0.046 to 0.035. The mean over single images answers up to a point
    more of them alike, but moves single probabilities by up to three times as much.

    Args:
        content: The ONNX file.
        faces: uint8 ``[N, 48, 48]``, typical ones.

    Returns:
        By the name of the tensor.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "folded.onnx"
        onnx.save(with_constants_folded(content), path)
        calibrator = create_calibrator(
            path,
            list(OPERATORS),
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"moving_average": True},
        )
        calibrator.collect_data(_Faces(faces))
        found = calibrator.compute_data()
    return {
        tensor: (np.min(data.range_value[0]).item(), np.max(data.range_value[1]).item())
        for tensor, data in sorted(found.items())
    }


class _Faces(CalibrationDataReader):
    def __init__(self, faces: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            [
                faces[start : start + IMAGES_PER_EXTREME]
                for start in range(0, len(faces), IMAGES_PER_EXTREME)
            ]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        faces = next(self._batches, None)
        return None if faces is None else {INPUT: faces}
