"""What the hold-out says about a network's probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

STATED_PRECISION = 0.8
"""Answers without the warning ``low_confidence`` are right at least so often on the hold-out."""


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
