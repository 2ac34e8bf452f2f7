"""Scores of predicted probabilities against the votes of people (FER+)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import (
    ReliabilityBin,
    agreement,
    expected_calibration_error,
    mean,
    reliability_bins,
)
from ferserve.fer2013.votes import CHOICES, emotion_shares, majority

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""The cross-entropy counts smaller probabilities as this one, so that it stays finite."""


@dataclass(frozen=True)
class VoteScores:
    """Scores of one model on one split, against people's votes. A mean without faces is None.

    Attributes:
        n: Number of faces whose majority is unique and one of the seven emotions.
        n_shares: Number of faces with at least one vote for one of the seven emotions.
        recall: Share of the faces of each majority whose most probable emotion it is, 0..1.
        accuracy: The same share of all ``n`` faces.
        mean_recall: Unweighted mean of the recalls that are not None.
        cross_entropy: Mean cross-entropy to the shares of votes on the ``n_shares`` faces, in nats.
        js_distance: Mean Jensen-Shannon distance to the same shares, 0..1.
        ece: Gap between the highest score and the share of people who chose that emotion.
    """

    n: int
    n_shares: int
    recall: dict[str, float | None]
    accuracy: float | None = None
    mean_recall: float | None = None
    cross_entropy: float | None = None
    js_distance: float | None = None
    ece: float | None = None


def score_votes(probabilities: NDArray[np.float32], counts: NDArray[np.int64]) -> VoteScores:
    """Scores probabilities ``[N, 7]`` against votes ``[N, 10]``, zeros for a face without any.

    Raises:
        ValueError: The shapes do not belong together.
    """
    rows = len(counts)
    if probabilities.shape != (rows, len(EMOTIONS)) or counts.shape != (rows, len(CHOICES)):
        raise ValueError(
            f"expected probabilities [N, 7] and counts [N, 10], "
            f"got {probabilities.shape} and {counts.shape}"
        )
    people = majority(counts)
    is_clear = people >= 0
    is_right = probabilities.argmax(axis=1) == people
    recall = {name: mean(is_right[people == label]) for label, name in enumerate(EMOTIONS)}
    predicted, target = _with_shares(probabilities, counts)
    confidence, agreeing = predicted.max(axis=1), agreement(predicted, target)
    return VoteScores(
        n=int(is_clear.sum()),
        n_shares=len(target),
        recall=recall,
        accuracy=mean(is_right[is_clear]),
        mean_recall=mean(np.array([share for share in recall.values() if share is not None])),
        cross_entropy=mean(cross_entropy(predicted, target)),
        js_distance=mean(js_distance(predicted, target)),
        ece=expected_calibration_error(confidence, agreeing) if len(target) else None,
    )


def vote_reliability(
    probabilities: NDArray[np.float32], counts: NDArray[np.int64]
) -> list[ReliabilityBin]:
    """Returns the bins behind ``VoteScores.ece``; arguments as in :func:`score_votes`."""
    predicted, target = _with_shares(probabilities, counts)
    return reliability_bins(predicted.max(axis=1), agreement(predicted, target))


def _with_shares(
    probabilities: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and shares of people, of the faces with a vote for one of the seven."""
    shares = emotion_shares(counts)
    known = shares.any(axis=1)
    return probabilities[known].astype(np.float64), shares[known]


def cross_entropy(
    probabilities: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns ``-sum(target * log(probabilities))`` of each row ``[N, 7]``: ``[N]``, in nats.

    Barsoum et al. 2016 (arXiv 1608.01041) train with this cross-entropy to the shares of votes.
    Probabilities below :data:`SMALLEST_PROBABILITY` count as it.
    """
    logs = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return -np.asarray((target * logs).sum(axis=1), np.float64)


def js_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the square root of the Jensen-Shannon divergence (Lin 1991) to base 2.

    It is a metric (Endres and Schindelin 2003, A New Metric for Probability Distributions).

    Returns:
        float64 ``[N]`` for rows of ``[N, 7]``: 0 for equal ones, 1 for those without a common
        emotion.
    """
    middle = (first + second) / 2
    divergence = np.zeros(len(first))
    for rows in (first, second):
        ratio = np.divide(rows, middle, out=np.ones_like(rows), where=rows > 0)
        divergence += (rows * np.log2(ratio)).sum(axis=1) / 2
    return np.sqrt(np.clip(divergence, 0, 1))  # rounding may leave the range
