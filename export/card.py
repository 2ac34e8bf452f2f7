"""Measures an exported model on FER2013 and writes its card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx

from fer2013.labels import EMOTIONS, FACE_SIDE
from fer2013.reader import Fer2013
from fer2013.scoring import Scores, score
from fer2013.splits import evaluation_splits
from service.card import ModelCard, SplitMetrics
from training.evaluate import Predict, predict_batches

LICENCES = [
    "ferserve code and weights: Apache-2.0",
    "FER2013 training images: published as public domain at kaggle.com/datasets/msambare/fer2013",
]


def score_splits(predict: Predict, dataset: Fer2013) -> dict[str, Scores]:
    """Scores a model on every split of ``evaluation_splits``."""
    return {
        name: score(predict_batches(predict, split.faces), split.labels)
        for name, split in evaluation_splits(dataset).items()
    }


def write_model(
    model: onnx.ModelProto, folder: Path, card: dict[str, Any], scores: dict[str, Scores]
) -> ModelCard:
    """Writes ``<name>.onnx`` with its card in the metadata, and ``<name>.json``.

    Args:
        model: The graph; its metadata is replaced.
        folder: Where both files go.
        card: The card's fields that cannot be read off the graph or the scores.
        scores: By split.

    Returns:
        The card as written.
    """
    metrics = {
        name: SplitMetrics(n=s.n, accuracy=s.accuracy, macro_f1=s.macro_f1, ece=s.ece).model_dump()
        for name, s in scores.items()
    }
    fields = card | {
        "labels": list(EMOTIONS),
        "input": {"name": "faces", "dtype": "uint8", "shape": ["N", FACE_SIDE, FACE_SIDE]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["N", len(EMOTIONS)]},
        "metrics": metrics,
        "licences": LICENCES,
    }
    del model.metadata_props[:]
    for key, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    data = model.SerializeToString()
    checked = ModelCard(**fields, sha256=hashlib.sha256(data).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{checked.name}.onnx").write_bytes(data)
    checked.write(folder / f"{checked.name}.json")
    return checked
