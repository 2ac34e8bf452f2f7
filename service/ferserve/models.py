"""A model file and its card → one checked model that predicts."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.sessions import CPU, ModelError, Runtime, open_session

INPUT = "faces"
OUTPUT = "probabilities"

Faces = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass
class Model:
    """A model ready to predict; safe to share between threads.

    Attributes:
        provider: The execution provider in use, such as ``CUDAExecutionProvider``.
        batch_sizes: Those to warm up, in ascending order.
        predict: Returns probabilities float32 ``[N, 7]``, columns in the order of ``card.labels``,
            of grey faces uint8 ``[N, 48, 48]``, N at least 1; rows sum to 1.
    """

    card: ModelCard
    provider: str
    batch_sizes: tuple[int, ...]
    predict: Callable[[Faces], Scores]

    def warm_up(self) -> None:
        """Runs every batch size once, so that no request pays; ModelError where that fails."""
        for size in self.batch_sizes:
            probe = np.linspace(0, 255, size * FACE_SIDE * FACE_SIDE).astype(np.uint8)
            try:
                rows = self.predict(probe.reshape(size, FACE_SIDE, FACE_SIDE))
            except Exception as error:  # ONNX Runtime raises a class of its own for each kind
                raise ModelError(
                    f"{self.card.name}.onnx: a batch of {size} cannot be run: {error}"
                ) from error
            if np.any((rows < 0) | (rows > 1)) or not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
                raise ModelError(
                    f"{self.card.name}.onnx: '{OUTPUT}' are not probabilities: "
                    f"rows of a probe sum to {rows.sum(axis=1).tolist()}"
                )


def load_model(folder: Path, name: str, runtime: Runtime | None = None) -> Model:
    """Loads ``<name>.onnx`` and its card ``<name>.json``, and checks both.

    Raises:
        ModelError: A file is missing, damaged or breaks the contract, or the provider that was
            asked for does not work.
    """
    card = read_card(folder, name)
    path = folder / f"{name}.onnx"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"{path}: its sha256 is {digest}, but {name}.json says {card.sha256}; "
            "the file is damaged or belongs to another card"
        )
    runtime = runtime or Runtime()
    session, provider = open_session(content, str(path), runtime, int8=card.precision == "int8")
    _check_contract(session, card, path)

    def run(faces: Faces) -> Scores:
        return np.asarray(session.run([OUTPUT], {INPUT: faces})[0])

    if provider == CPU:  # which keeps nothing by shape
        return Model(card, provider, (1,), run)
    sizes = padded_sizes(runtime.max_batch)
    return Model(card, provider, sizes, padded(run, sizes))


def padded(run: Callable[[Faces], Scores], sizes: Sequence[int]) -> Callable[[Faces], Scores]:
    """Pads batches with blank faces to the next of a few sizes: cuDNN plans by shape."""

    def run_padded(faces: Faces) -> Scores:
        scores = []
        for start in range(0, len(faces), sizes[-1]):
            piece = faces[start : start + sizes[-1]]
            missing = next(size for size in sizes if size >= len(piece)) - len(piece)
            scores.append(run(np.pad(piece, ((0, missing), (0, 0), (0, 0))))[: len(piece)])
        return np.concatenate(scores)

    return run_padded


def padded_sizes(max_batch: int) -> tuple[int, ...]:
    """Returns 1, 2, 4 … below ``max_batch``, then ``max_batch`` itself."""
    powers = (1 << i for i in range((max_batch - 1).bit_length()))
    return (*powers, max_batch)


def read_card(folder: Path, name: str) -> ModelCard:
    """Reads ``<name>.json``; ModelError where it is missing or not the card of ``name``."""
    path = folder / f"{name}.json"
    try:
        card = ModelCard.read(path)
    except OSError as error:
        known = ", ".join(available_models(folder)) or "none"
        raise ModelError(f"{path}: {error.strerror}; models found there: {known}") from error
    except ValidationError as error:
        raise ModelError(f"{path}: not a model card: {error}") from error
    if card.name != name:
        raise ModelError(f"{path}: is the card of {card.name!r}, not of {name!r}")
    return card


def available_models(folder: Path) -> list[str]:
    """Returns the names that ``folder`` has a file and a card of, in alphabetical order."""
    return sorted(
        card.stem for card in folder.glob("*.json") if card.with_suffix(".onnx").is_file()
    )


def _check_contract(session: ort.InferenceSession, card: ModelCard, path: Path) -> None:
    """Refuses a graph of another form, or with other labels than its card."""
    faults = [
        f"its {role} is {found}, expected {expected}"
        for role, found, expected in (
            ("input", _shown(session.get_inputs()), f"{INPUT}: tensor(uint8) [N, 48, 48]"),
            ("output", _shown(session.get_outputs()), f"{OUTPUT}: tensor(float) [N, 7]"),
        )
        if found != expected
    ]
    stored = session.get_modelmeta().custom_metadata_map.get("labels", "null")
    try:
        labels = json.loads(stored)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or sorted(map(str, labels)) != sorted(EMOTIONS):
        faults.append(f"its labels are {stored}, not a JSON list of {list(EMOTIONS)}")
    elif labels != card.labels:
        faults.append(f"its labels are {labels}, but those of the card are {card.labels}")
    if faults:
        raise ModelError(f"{path}: breaks the model contract: " + "; ".join(faults))


def _shown(tensors: list[Any]) -> str:
    def shape(tensor: Any) -> str:
        return ", ".join(str(n) if isinstance(n, int) else "N" for n in tensor.shape)

    return ", ".join(f"{tensor.name}: {tensor.type} [{shape(tensor)}]" for tensor in tensors)
