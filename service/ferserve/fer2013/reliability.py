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
        accuracy: Share of them that is right; None where there are none.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = ECE_BINS
) -> list[ReliabilityBin]:
    """Splits images by confidence, as ``scoring.expected_calibration_error`` does.

    Args:
        probabilities: float32 ``[N, 7]``.
        labels: int64 ``[N]``.
        bins: Number of equal-width bins over 0..1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = confidence_bin(confidence, bins)
    found = []
    for index in range(bins):
        inside = bin_of == index
        n = int(inside.sum())
        found.append(
            ReliabilityBin(
                low=index / bins,
                high=(index + 1) / bins,
                n=n,
                confidence=float(confidence[inside].mean()) if n else None,
                accuracy=float(correct[inside].mean()) if n else None,
            )
        )
    return found
