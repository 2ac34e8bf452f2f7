"""Measures a model on every split of FER2013, by the protocol of docs/training.md.

What needs ONNX Runtime is imported inside the functions: a host that only trains may lack it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ferserve.card import Answers
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.fer2013.scoring import VoteScores, score, score_votes
from ferserve.fer2013.votes import Votes

from ferserve_training import TrainingError

Predict = Callable[[np.ndarray], np.ndarray]
"""Faces uint8 ``[N, 48, 48]`` to probabilities float32 ``[N, 7]``."""

BATCH = 16
"""Larger batches are no faster on a CPU; with 64 faces and their mirrors an export of VGG16 took
7 GB."""


def open_model(path: Path, answers: Answers = "FER2013 labels") -> Predict:
    """Opens a model with its card, or the Keras weights of a run; takes any number of faces.

    Args:
        path: An ONNX file, or a run's folder.
        answers: Which head of the run answers; a model has one.

    Raises:
        TrainingError: It is neither, or cannot be served.
    """
    if path.suffix == ".onnx" and path.is_file():
        from ferserve.models import load_model
        from ferserve.sessions import ModelError, Runtime
        from ferserve.settings import usable_cpus

        try:
            runtime = Runtime("cpu", intra_op_threads=usable_cpus())
            model = load_model(path.parent, path.stem, runtime)
        except ModelError as error:
            raise TrainingError(str(error)) from error
        columns = [model.card.labels.index(emotion) for emotion in EMOTIONS]
        return remembering(lambda faces: model.predict(faces)[:, columns])
    if (path / "run.json").is_file():
        return remembering(_open_run(path, answers))
    raise TrainingError(f"{path}: expected an ONNX file, or a run's folder with run.json")


def remembering(predict: Predict) -> Predict:
    """Asks a model 16 faces at a time, and about each face once: splits share test images."""
    known: dict[bytes, np.ndarray] = {}

    def ask(faces: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(face.tobytes()).digest() for face in faces]
        unseen = list({key: i for i, key in enumerate(keys) if key not in known}.items())
        for start in range(0, len(unseen), BATCH):
            part = unseen[start : start + BATCH]
            rows = predict(faces[[i for _, i in part]])
            known.update(zip((key for key, _ in part), rows, strict=True))
        return np.array([known[key] for key in keys], np.float32).reshape(-1, len(EMOTIONS))

    return ask


def evaluate(
    predict: Predict,
    dataset: Fer2013,
    splits: list[str] | None = None,
    *,
    train_faces: int | None = None,
    votes: Votes | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores a model on the splits of :meth:`Fer2013.evaluation_splits`.

    Args:
        predict: The model; it is asked about a whole split at once, so see :func:`remembering`.
        dataset: FER2013.
        splits: Names of the splits; by default all that have images.
        train_faces: Score only this many of Training, drawn by :func:`sample`; all if None.
        votes: FER+ votes, to score the model against people's answers too.

    Returns:
        By split: ``n, accuracy, interval`` (95 %, Wilson)``, macro_f1, ece, per_class, confusion,
        reliability``; plain lists and numbers, fit for JSON. With votes also ``votes``, the
        fields of ``VoteScores`` and their ``reliability``.
    """
    available = dataset.evaluation_splits()
    if train_faces is not None:
        available["train"] = sample(available["train"], train_faces)
    report = {}
    for name in splits or [name for name, split in available.items() if len(split)]:
        split = available[name]
        probabilities = predict(split.faces)
        scores = score(probabilities, split.labels)
        report[name] = asdict(scores) | {"confusion": scores.confusion.tolist()}
        if votes is not None:
            of_votes, bins = score_votes(probabilities, votes.of(split))
            reliability = [asdict(one) for one in bins]
            report[name]["votes"] = asdict(of_votes) | {"reliability": reliability}
    return report


def vote_scores(report: dict[str, dict[str, Any]]) -> dict[str, VoteScores]:
    """Takes what a card states about votes out of a report of :func:`evaluate`."""
    return {
        split: VoteScores(**{k: v for k, v in scores["votes"].items() if k != "reliability"})
        for split, scores in report.items()
        if split in ("public", "private") and "votes" in scores
    }


def sample(split: Split, count: int) -> Split:
    """Draws faces at random, always the same; a smaller draw is part of a larger one."""
    return split.take(np.random.default_rng(0).permutation(len(split))[:count])


def open_onnx(model: bytes, *, int8: bool = False) -> Predict:
    """Opens an ONNX file's bytes on the CPU as the service does, with all processors."""
    from ferserve.models import INPUT, OUTPUT
    from ferserve.sessions import Runtime, open_session
    from ferserve.settings import usable_cpus

    runtime = Runtime("cpu", intra_op_threads=usable_cpus())
    session, _ = open_session(model, "the model", runtime, int8=int8)
    return lambda faces: session.run([OUTPUT], {INPUT: faces})[0]


def _open_run(path: Path, answers: Answers) -> Predict:
    import keras

    from ferserve_training.run_folder import RunFolder, load_network

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    network = load_network(RunFolder(path), answers)
    keras.config.set_dtype_policy(policy)
    network.compile(jit_compile=keras.config.backend() == "jax")

    def predict(faces: np.ndarray) -> np.ndarray:
        logits = network.predict_on_batch(faces)
        return keras.ops.convert_to_numpy(keras.ops.softmax(logits))

    return predict
