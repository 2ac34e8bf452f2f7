"""A released model in, the same with another arithmetic and a card of its own out."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013
from ferserve.models import load_model
from ferserve.sessions import ModelError, Runtime
from ferserve_training.evaluate import evaluate, open_onnx, remembering, sample
from ferserve_training.multiply_adds import multiply_adds

from ferserve_export import ExportError
from ferserve_export.card import write_model
from ferserve_export.float16 import to_float16
from ferserve_export.int8 import to_int8

RANGE_FACES = 512
"""Training images that the ranges of int8 are taken from."""


def quantize(
    name: str,
    folder: Path,
    dataset: Fer2013,
    *,
    precision: Literal["int8", "float16"],
    log: Callable[[str], None],
) -> ModelCard:
    """Writes ``<name>_<precision>.onnx`` and its card, with figures of all test splits.

    Reads the model from ``folder`` and writes there; ``log`` takes a line a step.

    Raises:
        ExportError: There is no such model, it cannot be served, or it cannot be converted.
    """
    try:
        card = load_model(folder, name, Runtime("cpu")).card
    except ModelError as error:
        raise ExportError(str(error)) from error
    if card.precision:
        raise ExportError(f"{name} computes in {card.precision} already")
    if card.labels != list(EMOTIONS):
        raise ExportError(f"{name}: its labels have to be in the order {', '.join(EMOTIONS)}")
    is_int8 = precision == "int8"
    try:
        content = (folder / f"{name}.onnx").read_bytes()
        faces = sample(dataset.train, RANGE_FACES).faces
        converted = to_int8(content, faces) if is_int8 else to_float16(content)
        predict = remembering(open_onnx(converted.SerializeToString(), int8=is_int8))
    except Exception as error:  # the converters assert and index; no class tells their failures
        raise ExportError(f"{name}: cannot be converted to {precision}: {error!r}") from error
    splits = [k for k, faces in dataset.evaluation_splits().items() if k != "train" and len(faces)]
    report = evaluate(predict, dataset, splits)
    measured = {"sha256", "robustness", "calibration", "votes"}
    fields = card.model_dump(exclude=measured, exclude_none=True)
    fields |= {
        "name": f"{name}_{precision}",
        "description": f"{card.description}; convolutions compute in {precision}",
        "precision": precision,
        "multiply_adds": multiply_adds(onnx.load_from_string(content)),  # quantizing hides shapes
    }
    written = write_model(converted, folder, fields, report)
    for split, scores in written.metrics.items():
        if stated := card.metrics.get(split):
            log(f"{split}: {stated.accuracy:.2%} → {scores.accuracy:.2%} right")
    return written
