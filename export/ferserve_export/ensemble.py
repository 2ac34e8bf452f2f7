"""Other models' cards in, the card of their ensemble out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ferserve.calibration import apply_power_scaling, apply_temperature
from ferserve.card import EnsembleMember, ModelCard
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.models import read_card
from ferserve_training.evaluate import evaluate, open_onnx
from ferserve_training.evaluation_page import write_report
from ferserve_training.holdout import split_training
from ferserve_training.predictions import RememberedPredictions

from ferserve_export.calibrate import fit
from ferserve_export.card import complete
from ferserve_export.errors import ExportError

NAME = "ensemble"

STEPS = 500
"""Of expectation maximisation; the likelihood has one maximum, and three weights are soon there."""


def export_ensemble(
    members: list[str],
    dataset: Fer2013,
    out: Path,
    *,
    version: str,
    predictions: Path,
    train_faces: int | None,
    results: Path | None,
    log: Callable[[str], None],
) -> ModelCard:
    """Chooses weights, calibration and threshold on the hold-out, and measures every split.

    A member that was fitted to the hold-out too would look better there than it is. So it has an
    equal share fixed beforehand, and all else is chosen among the other members.

    Args:
        members: Names of models in ``out``.
        dataset: FER2013.
        out: Folder of the members, where ``ensemble.json`` goes.
        version: Goes into the card.
        predictions: Folder of what exports have predicted; the rest is added to it.
        train_faces: Score only so many of the Training images; all if None.
        results: Where figures and a page of plots go, as ``ferserve evaluate`` writes them.
        log: Takes a line a step.

    Raises:
        ExportError: No member kept a hold-out, or they kept different ones.
        ModelError: A member is missing.
    """
    cards = [read_card(out, name) for name in members]
    holdout = _common_holdout(cards, dataset.train)
    files = [predictions / f"{card.sha256}.npz" for card in cards]
    predicts = [
        RememberedPredictions(open_onnx((out / f"{card.name}.onnx").read_bytes()), file)
        for card, file in zip(cards, files, strict=True)
    ]
    held = [i for i, card in enumerate(cards) if _holdout(card)]
    rows = np.stack([predicts[i](holdout.faces) for i in held])
    chosen = fit_weights(rows, holdout.labels)
    weights = np.full(len(cards), 1 / len(cards))
    weights[held] = chosen * len(held) / len(cards)
    mean = np.tensordot(chosen, rows, axes=1)
    # Softmax of the logarithms gives the mean back, so they can stand for logits.
    logarithms = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
    found = fit([logarithms], np.eye(len(EMOTIONS))[holdout.labels])
    log(f"weights {dict(zip(members, weights.round(3).tolist(), strict=True))}")
    log(f"temperature {found.temperature:.3f}, power scaling: {found.power_scaling}")
    log(f"hold-out: {found.calibration}")

    def predict(faces: np.ndarray) -> np.ndarray:
        parts = np.stack([member(faces) for member in predicts])
        rows = apply_temperature(np.tensordot(weights, parts, axes=1), found.temperature)
        return apply_power_scaling(rows, found.power_scaling)

    report = evaluate(predict, dataset, train_faces=train_faces)
    for member, file in zip(predicts, files, strict=True):
        member.save(file)
    fields = complete(
        {
            "name": NAME,
            "version": version,
            "description": f"Weighted mean of {', '.join(members[:-1])} and {members[-1]}",
            "parameters": sum(card.parameters for card in cards),
            "multiply_adds": sum(card.multiply_adds or 0 for card in cards) or None,
            "training": {
                "dataset_sha256": dataset.sha256(),
                "chosen_on": {"holdout": len(holdout), "members": [members[i] for i in held]},
            },
            "mirror_averaging": all(card.mirror_averaging for card in cards),
            **found.model_dump(exclude_none=True),
            "members": [
                EnsembleMember(name=card.name, sha256=card.sha256, weight=weight)
                for card, weight in zip(cards, weights.tolist(), strict=True)
            ],
        },
        report,
    )
    fields["licences"] = list(dict.fromkeys(text for card in cards for text in card.licences))
    card = ModelCard(**fields, sha256="0" * 64)
    card.sha256 = card.ensemble_sha256()
    card.write(out / f"{NAME}.json")
    if results:
        write_report(NAME, report, results, None)
    return card


def fit_weights(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds the weights of a mean that make the labels most likely, by expectation maximisation.

    Args:
        rows: Probabilities ``[M, N, 7]`` of M models.
        labels: int64 ``[N]``.

    Returns:
        float64 ``[M]``, at least 0, sum 1.
    """
    likelihoods = rows[:, np.arange(len(labels)), labels].astype(np.float64)
    weights = np.full(len(rows), 1 / len(rows))
    for _ in range(STEPS):
        parts = weights[:, None] * likelihoods
        weights = (parts / parts.sum(axis=0)).mean(axis=1)
    return weights


def _holdout(card: ModelCard) -> tuple[float, int | None, int] | None:
    """The settings of ``split_training`` that a model was trained with."""
    share = card.training.get("holdout_share")
    return (share, card.training["limit"], card.training["seed"]) if share else None


def _common_holdout(cards: list[ModelCard], train: Split) -> Split:
    settings = {kept for card in cards if (kept := _holdout(card))}
    if len(settings) != 1:
        names = ", ".join(card.name for card in cards)
        count = "no" if not settings else "different"
        raise ExportError(f"{names}: {count} hold-outs; train with the same --holdout and --seed")
    _, holdout = split_training(train, *settings.pop())
    return holdout
