"""What power scaling is, written down once more."""

import numpy as np
from ferserve.card import PowerScaling
from scipy.special import softmax


def apply_power_scaling(probabilities: np.ndarray, scaling: PowerScaling) -> np.ndarray:
    """``softmax(-scale * (-log p) ** exponent)`` of rows ``[N, 7]``, in float64."""
    with np.errstate(divide="ignore"):  # the surprise of 0 is infinite, as it should be
        surprise = -np.log(np.minimum(probabilities.astype(np.float64), 1))
    return softmax(-scaling.scale * surprise**scaling.exponent, axis=1)
