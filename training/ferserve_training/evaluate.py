"""Measures a model on every split of FER2013, by the protocol of docs/training.md."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.fer2013.scoring import Scores, reliability_bins, score, wilson_interval
from ferserve.fer2013.vote_scoring import VoteScores, score_votes, vote_reliability
from ferserve.fer2013.votes import Votes

from ferserve_training.errors import TrainingError
from ferserve_training.predictions import Predict, RememberedPredictions


def open_model(path: Path, *, mirror: bool | None = None) -> Predict:
    """Opens an ONNX file, or the Keras weights of a training run; takes any number of faces.

    Args:
        path: ``*.onnx``, the card of an ensemble, ``*.json``, or the folder of a run.
        mirror: Whether each face is averaged with its mirror image. If None, an ONNX file does so
            if it is served so, and a run does not.

    Raises:
        TrainingError: It is none of these, or has no mirror image that could be left out.
    """
    if path.suffix == ".onnx" and path.is_file():
        model = path.read_bytes()
        single = open_onnx(_without_mirror(path, model) if mirror is False else model)
    elif path.suffix == ".json" and path.is_file():
        if mirror is False:
            raise TrainingError(
                f"{path}: an ensemble's members are served with mirror images; "
                "measure each of them with --no-mirror"
            )
        single = _open_ensemble(path)
    elif (path / "run.json").is_file():
        single = _open_run(path)
    else:
        raise TrainingError(
            f"{path}: expected an ONNX file, an ensemble's card, or a run's folder with run.json"
        )
    if not mirror:
        return RememberedPredictions(single)
    return RememberedPredictions(
        lambda faces: (single(faces) + single(np.ascontiguousarray(faces[:, :, ::-1]))) / 2
    )


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
        predict: The model.
        dataset: FER2013.
        splits: Names of the splits; all five by default.
        train_faces: Score only so many of Training, drawn by :func:`sample`; all if None.
        votes: FER+ votes, to score the model against people's answers too.

    Returns:
        By split: ``n, accuracy, interval`` (95 %, Wilson)``, macro_f1, ece, per_class, confusion,
        reliability``; plain lists and numbers, fit for JSON. With votes also ``votes``, the
        fields of ``VoteScores`` and their ``reliability``.
    """
    available = dataset.evaluation_splits()
    if train_faces is not None:
        available["train"] = sample(available["train"], train_faces)
    remembered = RememberedPredictions(predict)  # a test image belongs to several splits
    report = {}
    for name in splits or available:
        split = available[name]
        probabilities = remembered(split.faces)
        scores = score(probabilities, split.labels)
        report[name] = _as_json(scores) | {
            "reliability": [
                asdict(b)
                for b in reliability_bins(
                    probabilities.max(axis=1), probabilities.argmax(axis=1) == split.labels
                )
            ]
        }
        if votes is not None:
            counts = votes.of(split)
            report[name]["votes"] = asdict(score_votes(probabilities, counts)) | {
                "reliability": [asdict(b) for b in vote_reliability(probabilities, counts)]
            }
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


def _as_json(scores: Scores) -> dict[str, Any]:
    hits = int(np.trace(scores.confusion))
    return asdict(scores) | {
        "interval": list(wilson_interval(hits, scores.n)),
        "confusion": scores.confusion.tolist(),
    }


def open_onnx(model: bytes) -> Predict:
    """Opens an ONNX file's bytes on the CPU, with ONNX Runtime's default optimisations."""
    # Else ONNX Runtime, from 1.29 on, reports to its maker; it is read at the first import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # As in the service: weights stored as int8 are turned back once, not at every run.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda faces: session.run(["probabilities"], {"faces": faces})[0]


def _without_mirror(path: Path, model: bytes) -> bytes:
    from ferserve_training.errors import TrainingError
    from ferserve_training.mirror import without_mirror

    try:
        return without_mirror(model)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def _open_ensemble(card: Path) -> Predict:
    from ferserve.models import load_models
    from ferserve.sessions import ModelError, Runtime

    try:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        runtime = Runtime(provider="cpu", intra_op_threads=threads)
        models = load_models(card.parent, [card.stem], runtime)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    return models[card.stem].predict


def _open_run(path: Path) -> Predict:
    import keras

    from ferserve_training.run_folder import RunFolder, load_network

    keras.config.set_dtype_policy("float32")
    network = load_network(RunFolder(path))
    network.compile(jit_compile=keras.config.backend() == "jax")

    def predict(faces: np.ndarray) -> np.ndarray:
        logits = network.predict_on_batch(faces)
        return keras.ops.convert_to_numpy(keras.ops.softmax(logits))

    return predict
