"""The card of an exported model, written with it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from ferserve.card import ModelCard, SplitMetrics
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve_training.evaluate import vote_scores
from ferserve_training.multiply_adds import multiply_adds

LICENCES = [
    "ferserve code and weights: Apache-2.0",
    "FER2013 training images: published as public domain at kaggle.com/datasets/msambare/fer2013",
]

PRETRAINED = {
    "vgg16": [
        "ImageNet weights it started from: Visual Geometry Group, University of Oxford, CC BY 4.0"
    ],
    "resnet50v2": [
        "ImageNet weights it started from: TensorFlow Model Garden (TF-Slim), Apache-2.0"
    ],
}
"""Of the weights that a network starts from, by the network's name."""

VOTES = "FER+ votes it learned from: Microsoft, MIT License, github.com/microsoft/FERPlus"


def write_model(
    model: onnx.ModelProto, folder: Path, card: dict[str, Any], report: dict[str, Any]
) -> ModelCard:
    """Writes ``<name>.onnx`` with its card in the metadata, and ``<name>.json``; returns the card.

    ``card`` has the fields that cannot be read off the graph, whose metadata is replaced, or off
    the ``report`` of ``ferserve_training.evaluate.evaluate``.
    """
    training = card["training"]
    network = training.get("recipe", {}).get("network", "")  # a card may say little of its training
    votes = [VOTES] if training.get("votes_sha256") else []
    licences = [*LICENCES, *PRETRAINED.get(network, ()), *votes]
    fields = {"licences": licences} | card
    fields |= {
        "labels": list(EMOTIONS),
        "input": {"name": "faces", "dtype": "uint8", "shape": ["N", FACE_SIDE, FACE_SIDE]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["N", len(EMOTIONS)]},
        "metrics": {
            split: {key: scores[key] for key in SplitMetrics.model_fields}
            for split, scores in report.items()
        },
        "multiply_adds": card.get("multiply_adds") or multiply_adds(model),
    }
    if scored := vote_scores(report):
        fields["votes"] = {split: asdict(scores) for split, scores in scored.items()}
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
