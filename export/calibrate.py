"""What the hold-out says about a network's probabilities."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from fer2013.scoring import expected_calibration_error
from service.card import Calibration

STATED_PRECISION = 0.8
"""Answers without the warning ``low_confidence`` are right at least so often on the hold-out."""


@dataclass(frozen=True)
class Fit:
    """What goes into the graph and the card.

    Attributes:
        temperature: Divisor of the logits.
        threshold: Least confidence of an answer without ``low_confidence``.
        calibration: What it did; None where nothing could be fitted.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    calibration: Calibration | None = None


def fit(plain: np.ndarray, mirrored: np.ndarray, labels: np.ndarray, *, mirror: bool) -> Fit:
    """Fits temperature and threshold of what is served.

    Args:
        plain: Logits ``[N, 7]`` of faces that the network was not fitted to.
        mirrored: Those of their mirror images.
        labels: int64 ``[N]``.
        mirror: Whether the mean of both is served.
    """
    views = [plain, mirrored] if mirror else [plain]
    temperature = fit_temperature(views, labels)
    served = mean_probabilities(views, temperature)

    def accuracy(logits: list[np.ndarray]) -> float:
        rows = mean_probabilities(logits, temperature)
        return float(np.mean(rows.argmax(axis=1) == labels))

    calibration = Calibration(
        n=len(labels),
        accuracy=accuracy(views),
        mirror_gain=accuracy([plain, mirrored]) - accuracy([plain]),
        ece_before=expected_calibration_error(mean_probabilities(views, 1.0), labels),
        ece_after=expected_calibration_error(served, labels),
    )
    return Fit(temperature, confidence_threshold(served, labels), calibration)


def mean_probabilities(views: list[np.ndarray], temperature: float) -> np.ndarray:
    """Averages the probabilities of several views' logits, each ``[N, 7]``."""
    return np.mean([softmax(view / temperature, axis=1) for view in views], axis=0)


def fit_temperature(views: list[np.ndarray], labels: np.ndarray) -> float:
    """Fits the temperature that makes the labels most likely (Guo et al. 2017).

    Args:
        views: Logits ``[N, 7]`` of the faces, and of their mirror images where the served
            graph averages both: the average is what is calibrated.
        labels: int64 ``[N]``, of faces that the network was not fitted to.

    Returns:
        The divisor of the logits, 0.05..20.
    """
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        parts = [log_softmax(v / np.exp(log_temperature), axis=1)[rows, labels] for v in views]
        return -float(np.mean(logsumexp(parts, axis=0) - np.log(len(parts))))

    bounds = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds).x))


def confidence_threshold(
    probabilities: np.ndarray, labels: np.ndarray, precision: float = STATED_PRECISION
) -> float:
    """Finds the least confidence above which answers are right at a stated rate.

    Args:
        probabilities: float32 ``[N, 7]``, calibrated.
        labels: int64 ``[N]``, of faces that the network was not fitted to.
        precision: The rate, 0..1.

    Returns:
        The threshold, 0..1; 1 if not even the surest answers are right so often.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence)
    right = (probabilities.argmax(axis=1) == labels)[order]
    rates = np.cumsum(right) / np.arange(1, len(right) + 1)
    reached = np.flatnonzero(rates >= precision)
    return float(confidence[order][reached[-1]]) if len(reached) else 1.0
