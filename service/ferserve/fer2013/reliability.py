"""The bins behind the expected calibration error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.scoring import ECE_BINS, confidence_bin


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence lies in (low, high].

    Attributes:
        low: Lower edge, not in the bin (but 0 is in the first).
        high: Upper edge, in the bin.
        n: Number of images.
        confidence: Their mean confidence; None where there are none.
        accuracy: Share of them that is right, or mean share of the people who agree; None where
            there are none.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_ | np.floating], bins: int = ECE_BINS
) -> list[ReliabilityBin]:
    """Splits images by confidence, as ``scoring.expected_calibration_error`` does.

    Args:
        confidence: ``[N]``, probability of each answer, 0..1.
        right: ``[N]``, whether the answer is right, or the share of people who gave it, 0..1.
        bins: Number of equal-width bins over 0..1.
    """
    exact = confidence.astype(np.float64)
    bin_of = confidence_bin(exact, bins)
    found = []
    for index in range(bins):
        inside = bin_of == index
        n = int(inside.sum())
        found.append(
            ReliabilityBin(
                low=index / bins,
                high=(index + 1) / bins,
                n=n,
                confidence=float(exact[inside].mean()) if n else None,
                accuracy=float(right[inside].mean()) if n else None,
            )
        )
    return found
