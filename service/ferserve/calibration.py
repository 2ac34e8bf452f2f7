"""Maps that make probabilities as sure as they are right, and leave their order alone."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ferserve.card import PowerScaling

Real = TypeVar("Real", bound=np.floating[Any])


def apply_temperature(probabilities: NDArray[Real], temperature: float) -> NDArray[np.float32]:
    """Divides the logarithms of probabilities ``[N, 7]`` by a temperature: float32 ``[N, 7]``."""
    powers = probabilities.astype(np.float64) ** (1 / temperature)
    result: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def apply_power_scaling(probabilities: NDArray[Real], scaling: PowerScaling) -> NDArray[Real]:
    """Computes ``softmax(-scale * (-log p) ** exponent)``.

    The map rises with p, so it changes neither the winner nor the order (Rahimi et al. 2020,
    Intra Order-Preserving Functions for Calibration of Multi-Class Neural Networks). Scale 1 and
    exponent 1 change nothing; exponent 1 alone is a temperature of ``1 / scale``. Probabilities are
    ``[N, 7]``; so is the result, of the same type, computed in float64.
    """
    # What float32 rounds to above 1 would have a negative surprise, whose power is no number.
    clipped = np.minimum(probabilities.astype(np.float64), 1)
    with np.errstate(divide="ignore"):  # the surprise of 0 is infinite, as it should be
        energies = scaling.scale * (-np.log(clipped)) ** scaling.exponent
    odds = np.exp(energies.min(axis=1, keepdims=True) - energies)
    result: NDArray[Real] = (odds / odds.sum(axis=1, keepdims=True)).astype(probabilities.dtype)
    return result
