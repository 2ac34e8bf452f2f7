"""Trained models that another one learns from: folders of runs, or exported models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ferserve.card import Answers

from ferserve_training import TrainingError
from ferserve_training.evaluate import open_model
from ferserve_training.networks.backbone import sha256
from ferserve_training.run_folder import RunFolder


@dataclass(frozen=True)
class Teacher:
    """A trained model.

    Attributes:
        path: A run's folder, or an ONNX file.
        description: For ``run.json``: its name, and the hash of the weights or the file.
        answers: What its heads answer with.
    """

    path: Path
    description: dict[str, str]
    answers: tuple[Answers, ...]


def find_teacher(path: Path) -> Teacher:
    """Looks at a run's folder, or at an ONNX file with its card; TrainingError without either."""
    if path.suffix != ".onnx":
        run = RunFolder(path)
        weights = sha256(run.weights)  # says what is missing
        name = run.read_description()["recipe"]["network"]
        return Teacher(path, {"network": name, "weights_sha256": weights}, run.answers())
    # Only here: a host that only trains may lack ONNX Runtime, and its teachers are runs.
    from ferserve.models import read_card
    from ferserve.sessions import ModelError

    try:
        card = read_card(path.parent, path.stem)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    description = {"network": card.name, "weights_sha256": sha256(path)}
    return Teacher(path, description, (card.answers,))


def mean_answers(
    teachers: Sequence[Teacher], answers: Answers, faces: np.ndarray, temperature: float = 1.0
) -> np.ndarray | None:
    """Asks those teachers that can be asked a question: FER2013's label, or what people would say.

    Returns:
        The mean of their probabilities for each face, float32 ``[N, 7]``; None without such a
        teacher.

    Raises:
        TrainingError: A teacher's file cannot be served, or its weights are of another network.
    """
    able = [teacher.path for teacher in teachers if answers in teacher.answers]
    # The softmax of logits over T is their softmax to the power of 1/T, scaled to sum to 1.
    powers = [open_model(path, answers)(faces) ** (1 / temperature) for path in able]
    rows = [power / power.sum(axis=1, keepdims=True) for power in powers]
    return np.mean(rows, axis=0) if rows else None
