"""A training run in, a checked ONNX file with its card out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ferserve.card import Answers, ModelCard
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.fer2013.scoring import score_votes
from ferserve.fer2013.votes import Votes, emotion_shares
from ferserve_training.evaluate import BATCH, evaluate, open_onnx, remembering, sample
from ferserve_training.evaluation_page import write_report
from ferserve_training.holdout import split_training
from ferserve_training.networks.backbone import sha256
from ferserve_training.run_folder import RunFolder, load_network

from ferserve_export import ExportError
from ferserve_export.calibrate import Fit, fit
from ferserve_export.card import write_model
from ferserve_export.compress import compress
from ferserve_export.convert import convert, serving
from ferserve_export.verify import COMPRESSION_FACES, verify_compression, verify_parity

DESCRIPTIONS = {
    "light": "Light EfficientNetV2 on 48×48 grey faces, trained on FER2013",
    "crowd": "Shares of people who would choose each emotion: the votes head of {network}",
    "custom_cnn": "Custom CNN on 48×48 grey faces, trained on FER2013",
    "vgg16": "VGG16 pretrained on ImageNet, fine-tuned on FER2013",
    "resnet50v2": "ResNet50V2 pretrained on ImageNet, fine-tuned on FER2013",
}

CROWD = "crowd"
"""The one model that answers with votes. Its network is that of any run that learned from them."""

PARITY_FACES = 70

SAME_RUN = ("recipe", "dataset_sha256", "started_from", "teachers", "votes_sha256")
"""What a run has in common with the one on whose hold-out it is calibrated."""


def export_run(
    name: str,
    run: Path,
    dataset: Fer2013,
    out: Path,
    *,
    version: str,
    mirror: bool,
    int8: bool,
    votes: Votes | None,
    calibration_run: Path | None,
    train_faces: int | None,
    results: Path | None,
    log: Callable[[str], None],
) -> ModelCard:
    """Exports a run's best weights, checks them against Keras and measures every split.

    The command ``ferserve export`` describes the arguments. ``crowd`` is calibrated on the votes,
    and every model is measured against them too. ``log`` takes a line a step.

    Raises:
        TrainingError: The run has no weights that fit its network, or learned from no votes.
        ExportError: Unknown model, a run of another one or on other data, or a graph that answers
            otherwise than Keras; nothing was written.
    """
    if name not in DESCRIPTIONS:
        raise ExportError(f"unknown model {name!r}; known: {', '.join(DESCRIPTIONS)}")
    if name == CROWD and votes is None:
        raise ExportError(f"{name} answers as people voted: it needs --votes PATH")
    answers: Answers = "FER+ votes" if name == CROWD else "FER2013 labels"
    keras.config.set_dtype_policy("float32")
    folder = RunFolder(run)
    network = load_network(folder, answers)
    rows = folder.read_history()
    hours = round(sum(float(row["seconds"]) for row in rows) / 3600, 2)
    description = folder.read_description() | {"epochs": len(rows), "hours": hours}
    if description["recipe"]["network"] != name and name != CROWD:
        raise ExportError(f"{run}: a run of {description['recipe']['network']}, not of {name}")
    held_out, calibrated = description, network
    if calibration_run:
        other = RunFolder(calibration_run)
        held_out, calibrated = other.read_description(), load_network(other, answers)
        others = [key for key in SAME_RUN if held_out.get(key) != description.get(key)]
        if others:
            raise ExportError(f"{calibration_run}: a run of another {', '.join(others)}")
        description["calibration_run"] = {"weights_sha256": sha256(other.weights)}
    share, limit = held_out.get("holdout_share", 0), held_out.get("limit")
    _, holdout = split_training(dataset.train, share, limit, held_out.get("seed", 0))
    now = {"dataset_sha256": dataset.sha256()}
    if len(holdout):
        now["holdout_sha256"] = holdout.sha256()
    if any(held_out.get(key, value) != value for key, value in now.items()):
        raise ExportError(f"{calibration_run or run}: its data are not those of --data")
    if calibration_run and not len(holdout):
        raise ExportError(f"{calibration_run}: it has no hold-out")
    found = Fit()
    if len(holdout):
        faces, targets = _targets(holdout, votes if name == CROWD else None)
        both = (faces, faces[:, :, ::-1])
        views = [calibrated.predict(view, batch_size=BATCH, verbose=0) for view in both]
        found = fit(views, targets, mirror=mirror)
    log(f"temperature {found.temperature:.3f}, threshold {found.low_confidence_threshold:.3f}")
    if found.calibration:
        log(f"power scaling: {found.power_scaling}")
        log(f"hold-out: {found.calibration}")
    serve = serving(
        network,
        temperature=found.temperature,
        mirror=mirror,
        power_scaling=found.power_scaling,
    )
    model = convert(serve)
    # Files are sorted by emotion: these are from all over.
    spread = np.linspace(0, len(dataset.test) - 1, PARITY_FACES).astype(np.int64)
    difference = verify_parity(serve, model, dataset.test.faces[spread])
    log(f"parity with Keras at batch 1 and 7: largest difference of a probability {difference:.2g}")
    predict = original = remembering(open_onnx(model.SerializeToString()))
    if int8:
        model = compress(model)
        predict = remembering(open_onnx(model.SerializeToString()))
        some = sample(dataset.train, COMPRESSION_FACES)
        move, change = verify_compression(original, predict, some.faces, some.labels)
        log(f"int8 weights: a probability moved by up to {move:.4f}, the accuracy by {change:+.2%}")
    if votes and len(holdout) and not calibration_run:
        scores, _ = score_votes(predict(holdout.faces), votes.of(holdout))
        log(f"hold-out against votes: {scores}")
    report = evaluate(predict, dataset, train_faces=train_faces, votes=votes)
    card = {
        "name": name,
        "version": version,
        "description": _describe(name, description),
        "answers": answers,
        "parameters": network.count_params(),
        "training": description,
        "sharpening": description["recipe"].get("sharpen", False),
        "mirror_averaging": mirror,
        **found.model_dump(exclude_none=True),
    }
    written = write_model(model, out, card, report)
    if results:
        write_report(name, report, results, folder.history)
    return written


def _describe(name: str, training: dict[str, Any]) -> str:
    text = DESCRIPTIONS[name].format(network=training["recipe"]["network"])
    if training["recipe"].get("votes"):
        text += ", trained on labels and votes at once" if name == CROWD else " and on FER+ votes"
    teachers = ", ".join(teacher["network"] for teacher in training.get("teachers", []))
    return f"{text}, taught by {teachers}" if teachers else text


def _targets(split: Split, votes: Votes | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns faces and what to answer, ``[N, 7]``: labels, or votes where there are any."""
    if votes is None:
        return split.faces, np.eye(len(EMOTIONS))[split.labels]
    shares = emotion_shares(votes.of(split))
    known = shares.any(axis=1)
    return split.faces[known], shares[known]
