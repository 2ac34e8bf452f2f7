"""Scores of predicted probabilities against labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.labels import EMOTIONS

ECE_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017, On Calibration of Modern NNs."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one emotion; a share of nothing counts as 0.

    Attributes:
        support: Number of images with this label.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one split.

    Attributes:
        n: Number of images.
        accuracy: Share of images whose most probable emotion is the label, 0..1.
        macro_f1: Unweighted mean of the seven F1 scores, 0..1.
        ece: Expected calibration error over 15 equal-width bins, 0..1.
        per_class: Scores by emotion, in the order of ``EMOTIONS``.
        confusion: int64 ``[7, 7]``; row = label, column = prediction.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    per_class: dict[str, ClassScores]
    confusion: NDArray[np.int64]


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
    per_class = {name: _class_scores(confusion, i) for i, name in enumerate(EMOTIONS)}
    return Scores(
        n=len(labels),
        accuracy=float(np.mean(predictions == labels)),
        macro_f1=float(np.mean([scores.f1 for scores in per_class.values()])),
        ece=expected_calibration_error(probabilities.max(axis=1), predictions == labels),
        per_class=per_class,
        confusion=confusion,
    )


def agreement(
    probabilities: NDArray[np.floating], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns what share of each target the most probable emotion has.

    Args:
        probabilities: ``[N, 7]``.
        targets: ``[N, 7]``, rows sum to 1: one-hot labels, or shares of people.

    Returns:
        float64 ``[N]``: whether the answer is right, or how many people agree with it.
    """
    chosen: NDArray[np.float64] = targets[np.arange(len(targets)), probabilities.argmax(axis=1)]
    return chosen


def expected_calibration_error(
    confidence: NDArray[np.floating], right: NDArray[np.bool_ | np.floating], bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy, weighted by the images in each confidence bin.

    Args:
        confidence: ``[N]``, probability of each answer, 0..1.
        right: ``[N]``, whether the answer is right, or the share of people who gave it, 0..1.
        bins: Number of equal-width bins over 0..1; the upper edge belongs to a bin.
    """
    exact = confidence.astype(np.float64)
    gaps = np.bincount(confidence_bin(exact, bins), weights=right - exact, minlength=bins)
    return float(np.abs(gaps).sum() / len(exact))


def confidence_bin(confidence: NDArray[np.float64], bins: int = ECE_BINS) -> NDArray[np.int64]:
    """Returns the bin of each confidence.

    Bin ``i`` holds (i / bins, (i + 1) / bins]. The first bin holds 0 too.

    Args:
        confidence: float64 ``[N]``, 0..1.
        bins: Number of equal-width bins over 0..1.

    Returns:
        int64 ``[N]``, 0..bins - 1.
    """
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _class_scores(confusion: NDArray[np.int64], index: int) -> ClassScores:
    hits = float(confusion[index, index])
    support = int(confusion[index].sum())
    predicted = int(confusion[:, index].sum())
    precision = hits / predicted if predicted else 0.0
    recall = hits / support if support else 0.0
    f1 = 2 * hits / (support + predicted) if support + predicted else 0.0
    return ClassScores(precision, recall, f1, support)
