"""What the hold-out says about a network's probabilities."""

import numpy as np
import tensorflow as tf
from ferserve.card import Calibration, PowerScaling
from ferserve.fer2013.scoring import agreement, cross_entropy, expected_calibration_error
from pydantic import BaseModel
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

STATED_PRECISION = 0.8
"""Answers without the warning ``low_confidence`` are right in at least this share of the hold-out;
of a model of the votes, this share of people agrees with them on average."""

TEMPERATURES = (0.05, 20.0)
SCALES = (0.05, 20.0)
EXPONENTS = (1 / 3, 3.0)
"""Bounds of the search: for a few faces, all answered right, the best is infinite."""


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
    served = power_scaled(mean, power_scaling).numpy()

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
    """Averages the probabilities, float64 ``[N, 7]``, of several views' logits."""
    exact = np.asarray(views, np.float64)  # float32 has steps larger than the minimiser's
    return softmax(exact / temperature, axis=2).mean(axis=0)


def fit_temperature(views: list[np.ndarray], targets: np.ndarray) -> float:
    """Fits the temperature with the least cross-entropy to the targets (Guo et al. 2017).

    Where the served graph averages two views, their average is what is calibrated.
    """

    def loss(logarithm: float) -> float:
        return float(cross_entropy(mean_probabilities(views, np.exp(logarithm)), targets).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES)).x))


def fit_power_scaling(probabilities: np.ndarray, targets: np.ndarray) -> PowerScaling:
    """Fits the scale and exponent with the least cross-entropy to the targets.

    A temperature stretches all gaps alike. Label smoothing leaves the small probabilities too
    large, and the temperature that makes up for them sets the likely emotions too far apart.
    """

    def scaling(logarithms: np.ndarray) -> PowerScaling:
        scale, exponent = np.exp(logarithms).tolist()
        return PowerScaling(scale=scale, exponent=exponent)

    def loss(logarithms: np.ndarray) -> float:
        scaled = power_scaled(probabilities, scaling(logarithms)).numpy()
        return float(cross_entropy(scaled, targets).mean())

    return scaling(minimize(loss, x0=np.zeros(2), bounds=np.log([SCALES, EXPONENTS])).x)


def power_scaled(probabilities: np.ndarray | tf.Tensor, scaling: PowerScaling) -> tf.Tensor:
    """Computes ``softmax(-scale * (-log p) ** exponent)`` of rows ``[N, 7]``.

    The map rises with p, so it changes neither the winner nor the order (Rahimi et al. 2020,
    Intra Order-Preserving Functions for Calibration of Multi-Class Neural Networks). Scale 1 and
    exponent 1 change nothing; exponent 1 alone is a temperature of ``1 / scale``.
    """
    # What float32 rounds to above 1 would have a negative surprise, whose power is not a number.
    surprise = -tf.math.log(tf.minimum(probabilities, 1))
    return tf.nn.softmax(-scaling.scale * surprise**scaling.exponent)


def confidence_threshold(
    probabilities: np.ndarray, targets: np.ndarray, precision: float = STATED_PRECISION
) -> float:
    """Finds the least confidence, 0..1, above which answers are right at a stated rate.

    It is 1 if not even the surest answers are right that often.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence)
    right = agreement(probabilities, targets)[order]
    rates = np.cumsum(right) / np.arange(1, len(right) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # the last of equal confidences
    reached = np.flatnonzero((rates >= precision) & ends)
    return float(confidence[order][reached[-1]]) if len(reached) else 1.0
