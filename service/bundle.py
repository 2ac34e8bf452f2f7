"""A model file and its card → a checked ONNX Runtime session that predicts."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from fer2013.labels import EMOTIONS, FACE_SIDE
from service.card import ModelCard

INPUT = "faces"
OUTPUT = "probabilities"
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

logger = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """A model cannot be served; the message says which file, and why."""


class ModelFacts(Protocol):
    """What is to know of a model, wherever it computes."""

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


class Bundle(ModelFacts, Protocol):
    """What is served under a model's name: a :class:`ModelBundle`, or several of them."""

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns probabilities float32 ``[N, 7]`` of faces uint8 ``[N, 48, 48]``."""


class ModelBundle:
    """A model ready to predict; safe to share between threads.

    Attributes:
        card: The model's card.
        labels: Emotions in the order of the output's columns, read from the ONNX file.
        provider: The execution provider in use, ``CUDAExecutionProvider`` or
            ``CPUExecutionProvider``.
        buckets: Batch sizes worth warming: powers of two up to ``max_batch`` on CUDA, where a
            batch is padded to the next one because cuDNN plans every new shape anew; 1 on the
            CPU, where nothing is kept by shape.
    """

    def __init__(self, card: ModelCard, session: ort.InferenceSession, max_batch: int) -> None:
        self.card = card
        self.labels = tuple(json.loads(session.get_modelmeta().custom_metadata_map["labels"]))
        self.provider: str = session.get_providers()[0]
        self.buckets = _powers_of_two(max_batch) if self.provider == CUDA else (1,)
        self._session = session

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the probabilities of the emotions of each face.

        Args:
            faces: uint8 ``[N, 48, 48]``, grey, N at least 1.

        Returns:
            float32 ``[N, 7]``; columns in the order of ``labels``, rows sum to 1.
        """
        count = len(faces)
        padded = next((size for size in self.buckets if size >= count), count)
        if padded > count:
            faces = np.concatenate([faces, np.zeros((padded - count, *faces.shape[1:]), np.uint8)])
        (probabilities,) = self._session.run([OUTPUT], {INPUT: faces})
        result: NDArray[np.float32] = probabilities[:count]
        return result

    def warm_up(self) -> None:
        """Runs every bucket once, so that no request pays for a first run.

        Raises:
            ModelError: The answers are not probabilities.
        """
        for size in self.buckets:
            probe = np.linspace(0, 255, size * FACE_SIDE * FACE_SIDE).astype(np.uint8)
            rows = self.predict(probe.reshape(size, FACE_SIDE, FACE_SIDE))
            in_range = bool(np.all((rows >= 0) & (rows <= 1)))
            if not in_range or not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
                raise ModelError(
                    f"{self.card.name}.onnx: '{OUTPUT}' are no probabilities: "
                    f"rows of a probe sum to {rows.sum(axis=1).tolist()}"
                )


def load_bundle(
    folder: Path,
    name: str,
    *,
    provider: str = "auto",
    device_id: int = 0,
    intra_op_threads: int = 1,
    max_batch: int = 32,
) -> ModelBundle:
    """Loads ``<name>.onnx`` and its card ``<name>.json``, and checks both.

    Args:
        folder: Where the two files are.
        name: Name of the model.
        provider: ``auto`` (CUDA where it works, else the CPU), ``cpu`` or ``cuda``.
        device_id: CUDA device.
        intra_op_threads: Threads inside one inference on the CPU.
        max_batch: Largest batch to prepare for.

    Raises:
        ModelError: A file is missing, damaged or breaks the contract, or CUDA was asked for and
            does not work.
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
    session = _open_session(content, path, provider, device_id, intra_op_threads)
    _check_contract(session, card, path)
    return ModelBundle(card, session, max_batch)


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


def available_models(folder: Path) -> list[str]:
    """Returns the names that ``folder`` has a card of, in alphabetical order.

    A card beside no ONNX file counts where it is an ensemble's.
    """
    return sorted(
        card.stem
        for card in folder.glob("*.json")
        if card.with_suffix(".onnx").is_file() or b'"members"' in card.read_bytes()
    )


def _powers_of_two(largest: int) -> tuple[int, ...]:
    """1, 2, 4 … below ``largest``, then ``largest`` itself."""
    return (*(1 << i for i in range((largest - 1).bit_length())), largest)


def _open_session(
    content: bytes, path: Path, provider: str, device_id: int, intra_op_threads: int
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # Threads that spin while idle take the processors from decoding and from other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Weights stored as int8 + DequantizeLinear become float32 once, at load; without this ONNX
    # Runtime keeps them apart and runs a third slower.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    use_cuda = provider == "cuda" or (provider == "auto" and CUDA in ort.get_available_providers())
    if provider == "cuda" and CUDA not in ort.get_available_providers():
        raise ModelError(
            "provider=cuda, but this onnxruntime was built without CUDA; "
            "install ferserve[gpu] or set FERSERVE_PROVIDER=cpu"
        )
    try:
        session = ort.InferenceSession(content, options, _providers(use_cuda, device_id))
    except Exception as error:  # ONNX Runtime raises a class of its own for each kind of failure
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if use_cuda and session.get_providers()[0] != CUDA:
        if provider == "cuda":
            raise ModelError(
                "provider=cuda, but ONNX Runtime fell back to the CPU; its log says which CUDA or "
                "cuDNN library it missed"
            )
        logger.warning("CUDA is built in but does not work here; %s runs on the CPU", path.name)
    return session


def _providers(use_cuda: bool, device_id: int) -> list[Any]:
    if not use_cuda:
        return [CPU]
    if hasattr(ort, "preload_dlls"):  # finds the CUDA and cuDNN libraries that pip installed
        ort.preload_dlls()
    options = {
        "device_id": device_id,
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 rounds to 10 bits, and differently by batch size: a face's answer would depend on
        # the other faces in its batch.
        "use_tf32": 0,
    }
    return [(CUDA, options), CPU]


def _check_contract(session: ort.InferenceSession, card: ModelCard, path: Path) -> None:
    """Refuses a graph that is not ``faces`` uint8 [N,48,48] → ``probabilities`` float32 [N,7]."""
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
