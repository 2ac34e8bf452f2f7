"""A model file and its card → a checked model that predicts."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from ferserve.card import Int8Card, ModelCard
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.runtime.errors import ModelError
from ferserve.runtime.options import Precision, RuntimeOptions
from ferserve.runtime.providers import CPU, CUDA
from ferserve.runtime.runners import INPUT, OUTPUT, Runner, open_runner
from ferserve.runtime.sessions import Sessions

__all__ = [
    "CPU",
    "CUDA",
    "INPUT",
    "OUTPUT",
    "Bundle",
    "ModelBundle",
    "ModelError",
    "available_models",
    "load_bundle",
    "read_card",
    "read_int8_card",
    "served_card",
]


class Bundle(Protocol):
    """What is served under a model's name: a :class:`ModelBundle`, or several of them."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Emotions in the order of the columns of its scores."""

    @property
    def provider(self) -> str:
        """The execution provider in use."""

    def warm_up(self) -> None:
        """Makes the first request as quick as the next."""

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns probabilities float32 ``[N, 7]`` of faces uint8 ``[N, 48, 48]``."""


class ModelBundle:
    """A model ready to predict; safe to share between threads.

    Attributes:
        card: The model's card.
        labels: Emotions in the order of the output's columns, read from the ONNX file.
        provider: The execution provider in use, ``CUDAExecutionProvider``,
            ``TensorrtExecutionProvider`` or ``CPUExecutionProvider``.
    """

    def __init__(
        self, card: ModelCard, labels: tuple[str, ...], provider: str, runner: Runner
    ) -> None:
        self.card = card
        self.labels = labels
        self.provider = provider
        self._runner = runner

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the probabilities of the emotions of each face.

        Args:
            faces: uint8 ``[N, 48, 48]``, grey, N at least 1.

        Returns:
            float32 ``[N, 7]``; columns in the order of ``labels``, rows sum to 1.
        """
        return self._runner.run(faces)

    def warm_up(self) -> None:
        """Runs every batch size once wherever it may run, so that no request pays for it.

        Raises:
            ModelError: A batch cannot be run, or the answers are not probabilities.
        """
        for size in self._runner.sizes:
            probe = np.linspace(0, 255, size * FACE_SIDE * FACE_SIDE).astype(np.uint8)
            try:
                answers = self._runner.rehearse(probe.reshape(size, FACE_SIDE, FACE_SIDE))
            except Exception as error:  # ONNX Runtime raises a class of its own for each kind
                raise ModelError(
                    f"{self.card.name}.onnx: a batch of {size} cannot be run: {error}"
                ) from error
            for rows in answers:
                in_range = bool(np.all((rows >= 0) & (rows <= 1)))
                if not in_range or not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
                    raise ModelError(
                        f"{self.card.name}.onnx: '{OUTPUT}' are no probabilities: "
                        f"rows of a probe sum to {rows.sum(axis=1).tolist()}"
                    )


def load_bundle(folder: Path, name: str, **options: Any) -> ModelBundle:
    """Loads ``<name>.onnx`` and its card ``<name>.json``, and checks both.

    Args:
        folder: Where the two files are.
        name: Name of the model.
        **options: Where and how it runs, as :class:`ferserve.runtime.options.RuntimeOptions` has
            them.

    Raises:
        ModelError: A file is missing, damaged or breaks the contract, or what was asked for, such
            as CUDA, does not work.
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
    runtime = RuntimeOptions(**options)
    ranges = None
    if runtime.precision == "int8":
        measured = read_int8_card(folder, card)
        card, ranges = card.in_int8(measured), measured.ranges
    sessions = Sessions(content, str(path), runtime, ranges)
    labels = _check_contract(sessions.any_size, card, path)
    try:
        runner = open_runner(sessions)
    except ModelError:
        raise
    except Exception as error:  # as in ``warm_up``
        raise ModelError(f"{path}: its buffers cannot be made: {error}") from error
    return ModelBundle(card, labels, sessions.provider, runner)


def read_card(folder: Path, name: str) -> ModelCard:
    """Reads ``<name>.json`` and checks that it is the card of ``name``.

    Raises:
        ModelError: It is missing or no such card.
    """
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


def served_card(folder: Path, name: str, precision: Precision = "float32") -> ModelCard:
    """Reads the card of a model as it is where it computes in this precision.

    Raises:
        ModelError: It is missing or no such card.
    """
    card = read_card(folder, name)
    return card.in_int8(read_int8_card(folder, card)) if precision == "int8" else card


def read_int8_card(folder: Path, card: ModelCard) -> Int8Card:
    """Reads ``int8/<name>.json`` and checks that it belongs to the card.

    Raises:
        ModelError: It is missing, no such card, or that of another file.
    """
    path = folder / "int8" / f"{card.name}.json"
    remedy = f"ferserve quantize {card.name} makes it"
    try:
        measured = Int8Card.read(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; precision=int8 needs it, {remedy}") from error
    except ValidationError as error:
        raise ModelError(f"{path}: not the card of a model in int8: {error}") from error
    members = {part.name for part in card.members or ()}
    if measured.sha256 != card.sha256 or set(measured.members or ()) != members:
        raise ModelError(f"{path}: was made of another {card.name}; {remedy} anew")
    return measured


def available_models(folder: Path) -> list[str]:
    """Returns the names that ``folder`` has a card of, in alphabetical order.

    A card beside no ONNX file counts where it is an ensemble's.
    """
    return sorted(
        card.stem
        for card in folder.glob("*.json")
        if card.with_suffix(".onnx").is_file() or b'"members"' in card.read_bytes()
    )


def _check_contract(session: ort.InferenceSession, card: ModelCard, path: Path) -> tuple[str, ...]:
    """Refuses a graph that is not ``faces`` uint8 [N,48,48] → ``probabilities`` float32 [N,7].

    Returns:
        The labels, in the model's order.
    """
    faults = [
        *_tensor_faults("input", session.get_inputs(), INPUT, "uint8", (FACE_SIDE, FACE_SIDE)),
        *_tensor_faults("output", session.get_outputs(), OUTPUT, "float", (len(EMOTIONS),)),
    ]
    stored = session.get_modelmeta().custom_metadata_map.get("labels")
    try:
        labels = json.loads(stored) if stored else None
    except ValueError:
        labels = stored
    if labels is None:
        faults.append("metadata_props has no 'labels'")
    elif not isinstance(labels, list) or sorted(map(str, labels)) != sorted(EMOTIONS):
        faults.append(f"its labels are {stored}, not a JSON list of {list(EMOTIONS)}")
    elif labels != card.labels:
        faults.append(f"its labels are {labels}, but those of the card are {card.labels}")
    if faults:
        raise ModelError(f"{path}: breaks the model contract: " + "; ".join(faults))
    return tuple(card.labels)


def _tensor_faults(
    role: str, tensors: list[Any], name: str, kind: str, tail: tuple[int, ...]
) -> list[str]:
    expected = f"{name}: {kind} [N, {', '.join(map(str, tail))}]"
    if [tensor.name for tensor in tensors] != [name]:
        found = [tensor.name for tensor in tensors]
        return [f"its {role}s are {found}, expected one, {expected}"]
    (tensor,) = tensors
    if tensor.type != f"tensor({kind})" or tuple(tensor.shape[1:]) != tail:
        return [f"its {role} is {name}: {tensor.type} {tensor.shape}, expected {expected}"]
    if isinstance(tensor.shape[0], int):
        return [f"its {role} {name} has the fixed batch size {tensor.shape[0]}, expected any"]
    return []
