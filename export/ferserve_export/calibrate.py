"""What the hold-out says about a network's probabilities."""

from typing import Any, TypeVar

import numpy as np
from ferserve.card import Calibration, PowerScaling
from ferserve.fer2013.scoring import agreement, cross_entropy, expected_calibration_error
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

Real = TypeVar("Real", bound=np.floating[Any])

STATED_PRECISION = 0.8
"""Answers without the warning ``low_confidence`` are right at least so often on the hold-out; of a
model of the votes, so many people agree with them on average."""

TEMPERATURES = (0.05, 20.0)
SCALES = (0.05, 20.0)
EXPONENTS = (1 / 3, 3.0)
"""Within these they are sought: a few faces, all answered right, would have them infinite."""


class Fit(BaseModel):
    """What goes into the graph and, by these names, into the card.

    Attributes:
        temperature: Divisor of the logits.
        power_scaling: Done to the mean of the views' probabilities after that; None where nothing
            could be fitted.
        low_confidence_threshold: Least confidence of an answer without ``low_confidence``.
        calibration: What it did; None where nothing could be fitted.
    """

    temperature: float = 1.0
    power_scaling: PowerScaling | None = None
    low_confidence_threshold: float = 0.5
    calibration: Calibration | None = None


def fit(views: list[np.ndarray], targets: np.ndarray, *, mirror: bool = False) -> Fit:
    """Fits temperature, power scaling and threshold, one after the other.

    Args:
        views: Logits ``[N, 7]`` of faces that the network was not fitted to, and of their mirror
            images if there are such.
        targets: ``[N, 7]``, rows sum to 1: one-hot labels, or the shares of people who chose each
            emotion.
        mirror: Whether the mean of both is served.
    """
    shown = views if mirror else views[:1]
    temperature = fit_temperature(shown, targets)
    mean = mean_probabilities(shown, temperature)
    power_scaling = fit_power_scaling(mean, targets)
    served = apply_power_scaling(mean, power_scaling)

    def accuracy(logits: list[np.ndarray]) -> float:
        rows = mean_probabilities(logits, temperature)
        return float(np.mean(agreement(rows, targets)))

    def error(rows: np.ndarray) -> float:
        return expected_calibration_error(rows.max(axis=1), agreement(rows, targets))

    calibration = Calibration(
        n=len(targets),
        accuracy=accuracy(shown),
        mirror_gain=accuracy(views) - accuracy(views[:1]) if len(views) > 1 else None,
        ece_before=error(mean_probabilities(shown, 1.0)),
        ece_after=error(served),
    )
    return Fit(
        temperature=temperature,
        power_scaling=power_scaling,
        low_confidence_threshold=confidence_threshold(served, targets),
        calibration=calibration,
    )


def mean_probabilities(views: list[np.ndarray], temperature: float) -> np.ndarray:
    """Averages the probabilities of several views' logits, each ``[N, 7]``."""
    return np.mean([softmax(view / temperature, axis=1) for view in views], axis=0)


def fit_temperature(views: list[np.ndarray], targets: np.ndarray) -> float:
    """Fits the temperature with the least cross-entropy to the targets (Guo et al. 2017).

    Args:
        views: Logits ``[N, 7]`` of the faces, and of their mirror images where the served
            graph averages both: the average is what is calibrated.
        targets: As in :func:`fit`, of faces that the network was not fitted to.

    Returns:
        The divisor of the logits, within :data:`TEMPERATURES`.
    """

    def loss(log_temperature: float) -> float:
        parts = [log_softmax(view / np.exp(log_temperature), axis=1) for view in views]
        logarithms = logsumexp(parts, axis=0) - np.log(len(parts))
        return -float((targets * logarithms).sum() / len(targets))

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES))
    return float(np.exp(found.x))


def fit_power_scaling(probabilities: np.ndarray, targets: np.ndarray) -> PowerScaling:
    """Fits the scale and exponent with the least cross-entropy to the targets.

    A temperature stretches all gaps alike. Label smoothing leaves the small probabilities too
    large, and the temperature that makes up for them sets the likely emotions too far apart.

    Args:
        probabilities: ``[N, 7]``, with the temperature that was fitted before.
        targets: As in :func:`fit`, of faces that the network was not fitted to.

    Returns:
        At least as good as none, within :data:`SCALES` and :data:`EXPONENTS`.
    """
    exact = probabilities.astype(np.float64)  # float32 has steps larger than the minimiser's

    def scaling(logarithms: np.ndarray) -> PowerScaling:
        scale, exponent = np.exp(logarithms).tolist()
        return PowerScaling(scale=scale, exponent=exponent)

    def loss(logarithms: np.ndarray) -> float:
        return float(cross_entropy(apply_power_scaling(exact, scaling(logarithms)), targets).mean())

    bounds = np.log([SCALES, EXPONENTS])
    return scaling(minimize(loss, x0=np.zeros(2), bounds=bounds).x)


def apply_power_scaling(probabilities: NDArray[Real], scaling: PowerScaling) -> NDArray[Real]:
    """Computes ``softmax(-scale * (-log p) ** exponent)``.

    The map rises with p, so it changes neither the winner nor the order (Rahimi et al. 2020,
    Intra Order-Preserving Functions for Calibration of Multi-Class Neural Networks). Scale 1 and
    exponent 1 change nothing; exponent 1 alone is a temperature of ``1 / scale``.

    Args:
        probabilities: ``[N, 7]``.
        scaling: Scale and exponent.

    Returns:
        ``[N, 7]`` of the same type, computed in float64; rows sum to 1.
    """
    # What float32 rounds to above 1 would have a negative surprise, whose power is no number.
    clipped = np.minimum(probabilities.astype(np.float64), 1)
    with np.errstate(divide="ignore"):  # the surprise of 0 is infinite, as it should be
        energies = scaling.scale * (-np.log(clipped)) ** scaling.exponent
    scaled: NDArray[Real] = softmax(-energies, axis=1).astype(probabilities.dtype)
    return scaled


def confidence_threshold(
    probabilities: np.ndarray, targets: np.ndarray, precision: float = STATED_PRECISION
) -> float:
    """Finds the least confidence above which answers are right at a stated rate.

    Args:
        probabilities: float32 ``[N, 7]``, calibrated.
        targets: As in :func:`fit`, of faces that the network was not fitted to.
        precision: The rate, 0..1.

    Returns:
        The threshold, 0..1; 1 if not even the surest answers are right so often.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence)
    right = agreement(probabilities, targets)[order]
    rates = np.cumsum(right) / np.arange(1, len(right) + 1)
    reached = np.flatnonzero(rates >= precision)
    return float(confidence[order][reached[-1]]) if len(reached) else 1.0
