"""Scores of predicted probabilities against labels and against the votes of people (FER+)."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.votes import emotion_shares, majority

ECE_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017, On Calibration of Modern NNs."""

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: a two-sided 95 % interval."""

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""The cross-entropy counts smaller probabilities as this one, so that it stays finite."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one emotion on its ``support`` images; a share of nothing counts as 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The ``n`` images whose confidence lies in (low, high], and in the first bin 0.

    Their mean confidence, and the share that is right or of the people who agree, are None where
    there are none.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one split.

    Attributes:
        n: Number of images.
        accuracy: Share of images whose most probable emotion is the label, 0..1.
        macro_f1: Unweighted mean of the F1 scores of the emotions that are a label or an answer.
        ece: Expected calibration error over 15 equal-width bins, 0..1.
        per_class: Scores by emotion, in the order of ``EMOTIONS``.
        confusion: int64 ``[7, 7]``; row = label, column = prediction.
        interval: Of the accuracy, as :func:`wilson_interval` returns it.
        reliability: As :func:`reliability_bins` returns it.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    per_class: dict[str, ClassScores]
    confusion: NDArray[np.int64]
    interval: tuple[float, float]
    reliability: list[ReliabilityBin]


def score(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores:
    """Scores probabilities ``[N, 7]`` (rows sum to 1) against labels ``[N]``.

    Raises:
        ValueError: No images, or the shapes do not belong together.
    """
    if probabilities.shape != (len(labels), len(EMOTIONS)) or len(labels) == 0:
        raise ValueError(
            f"expected probabilities [N, 7] and N > 0 labels, "
            f"got {probabilities.shape} and {labels.shape}"
        )
    predictions = probabilities.argmax(axis=1)
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    # Without any support or prediction there are no hits, so dividing by 1 gives 0.
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    columns = zip(
        EMOTIONS, *(one.tolist() for one in (precision, recall, f1, support)), strict=True
    )
    return Scores(
        n=len(labels),
        accuracy=float(np.mean(predictions == labels)),
        macro_f1=float(f1[support + predicted > 0].mean()),
        ece=expected_calibration_error(probabilities.max(axis=1), predictions == labels),
        per_class={name: ClassScores(*shares) for name, *shares in columns},
        confusion=confusion,
        interval=wilson_interval(int(hits.sum()), len(labels)),
        reliability=reliability_bins(probabilities.max(axis=1), predictions == labels),
    )


def agreement(
    probabilities: NDArray[np.floating], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns what share ``[N]`` of each target ``[N, 7]`` the most probable emotion has.

    Targets are one-hot labels, or shares of people; their rows sum to 1.
    """
    return np.asarray(targets[np.arange(len(targets)), probabilities.argmax(axis=1)])


def expected_calibration_error(
    confidence: NDArray[np.floating], right: NDArray[np.bool_ | np.floating]
) -> float:
    """Mean gap between confidence and accuracy, weighted by the images in each confidence bin.

    ``right`` says whether each answer is right, or the share of people who gave it; both ``[N]``.
    """
    exact = confidence.astype(np.float64)
    gaps = np.bincount(_bins(exact), weights=right - exact, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(exact))


def reliability_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_ | np.floating]
) -> list[ReliabilityBin]:
    """Splits images into the bins of :func:`expected_calibration_error`; same arguments."""
    exact = confidence.astype(np.float64)
    bins = _bins(exact)
    return [
        ReliabilityBin(
            low=index / ECE_BINS,
            high=(index + 1) / ECE_BINS,
            n=int(np.sum(bins == index)),
            confidence=mean(exact[bins == index]),
            accuracy=mean(right[bins == index]),
        )
        for index in range(ECE_BINS)
    ]


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence, 0..14; the upper edge belongs to a bin."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def mean(values: NDArray[np.bool_ | np.floating]) -> float | None:
    """Returns the mean; None of nothing."""
    return float(values.mean()) if len(values) else None


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927, Probable Inference).

    Unlike the textbook's normal interval it stays within 0..1 and holds for few images too.
    """
    share, z2 = hits / n, Z_95**2
    spread = Z_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    centre, scale = share + z2 / (2 * n), 1 + z2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mcnemar(only_first: int, only_second: int) -> float:
    """Compares two models by the images that only one of them gets right.

    Returns:
        Two-sided p-value of McNemar's exact test (McNemar 1947): how probable a split at least as
        uneven is between equal models.
    """
    n = only_first + only_second
    tail = ways = 1
    for k in range(min(only_first, only_second)):
        ways = ways * (n - k) // (k + 1)  # n over k + 1; math.comb anew would take seconds
        tail += ways
    # Whole numbers divided once: exact where floats would underflow.
    return min(1.0, 2 * tail / (1 << n))


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


def score_votes(
    probabilities: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[VoteScores, list[ReliabilityBin]]:
    """Scores probabilities ``[N, 7]`` against votes ``[N, 10]``, zeros for a face without any.

    Returns the bins behind ``VoteScores.ece``, too.
    """
    people = majority(counts)
    is_clear = people >= 0
    is_right = probabilities.argmax(axis=1) == people
    recall = {name: mean(is_right[people == label]) for label, name in enumerate(EMOTIONS)}
    shares = emotion_shares(counts)
    known = shares.any(axis=1)
    predicted, target = probabilities[known].astype(np.float64), shares[known]
    confidence, agreeing = predicted.max(axis=1), agreement(predicted, target)
    scores = VoteScores(
        n=int(is_clear.sum()),
        n_shares=len(target),
        recall=recall,
        accuracy=mean(is_right[is_clear]),
        mean_recall=mean(np.array([share for share in recall.values() if share is not None])),
        cross_entropy=mean(cross_entropy(predicted, target)),
        js_distance=mean(js_distance(predicted, target)),
        ece=expected_calibration_error(confidence, agreeing) if len(target) else None,
    )
    return scores, reliability_bins(confidence, agreeing)


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
