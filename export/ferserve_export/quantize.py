"""A released model in, the same with another arithmetic and a card of its own out."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from ferserve.card import ModelCard
from ferserve.fer2013.reader import Fer2013
from ferserve.models import INPUT, OUTPUT, load_model, read_card
from ferserve.sessions import Runtime, open_session
from ferserve.settings import usable_cpus
from ferserve_training.evaluate import evaluate, remembering, sample
from ferserve_training.multiply_adds import multiply_adds

from ferserve_export.card import write_model
from ferserve_export.errors import ExportError
from ferserve_export.float16 import to_float16
from ferserve_export.int8 import measure_ranges, to_int8


def quantize(
    name: str,
    folder: Path,
    dataset: Fer2013,
    *,
    precision: Literal["int8", "float16"] = "int8",
    images: int = 512,
    log: Callable[[str], None] = print,
) -> ModelCard:
    """Writes ``<name>_<precision>.onnx`` and its card, with figures of all test splits.

    Args:
        name: A model with a file of its own.
        folder: Where models and cards are.
        dataset: FER2013; the ranges come from Training images.
        precision: That convolutions compute in.
        images: How many Training images the ranges of int8 are taken from.
        log: Takes a line a step.

    Raises:
        ModelError: The model cannot be served.
        ExportError: The model cannot be converted.
    """
    card = read_card(folder, name)
    if card.precision:
        raise ExportError(f"{name} computes in {card.precision} already")
    runtime = Runtime(provider="cpu", intra_op_threads=usable_cpus())
    plain = load_model(folder, name, runtime)
    content = (folder / f"{name}.onnx").read_bytes()
    faces = sample(dataset.train, images).faces
    try:
        if precision == "int8":
            converted = to_int8(content, measure_ranges(content, faces))
        else:
            converted = to_float16(content)
    except Exception as error:  # the converters assert and index; no class tells their failures
        raise ExportError(f"{name}: cannot be converted to {precision}: {error!r}") from error
    session, _ = open_session(
        converted.SerializeToString(), name, runtime, int8=precision == "int8"
    )
    predict = remembering(lambda faces: session.run([OUTPUT], {INPUT: faces})[0])
    splits = [split for split in dataset.evaluation_splits() if split != "train"]
    report = evaluate(predict, dataset, splits)
    fields = card.model_dump(exclude={"sha256", "robustness", "calibration"}, exclude_none=True)
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
    before = remembering(plain.predict)(dataset.test.faces).argmax(axis=1)
    same = np.mean(before == predict(dataset.test.faces).argmax(axis=1))
    log(f"{same:.2%} of the test images are answered as before")
    return written
