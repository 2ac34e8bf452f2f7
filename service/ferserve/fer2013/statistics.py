"""How sure a measured accuracy is, and whether two models really differ."""

from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: a two-sided 95 % interval."""


def wilson_interval(hits: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Confidence interval of a share (Wilson 1927, Probable Inference).

    Unlike the textbook's normal interval it stays within 0..1 and holds for few images too.

    Args:
        hits: Successes, 0..n.
        n: Trials.
        z: Quantile of the normal distribution; the default gives a 95 % interval.

    Returns:
        Lower and upper end, 0..1.

    Raises:
        ValueError: ``n`` is not positive or ``hits`` not within 0..n.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"expected 0 <= hits <= n and n > 0, got {hits} of {n}")
    share = hits / n
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    centre = share + z * z / (2 * n)
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images.

    Attributes:
        only_first: Images that only the first model gets right.
        only_second: Images that only the second model gets right.
        p_value: Two-sided probability of a split at least as uneven if both were equally good.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> McNemar:
    """McNemar's test in its exact, binomial form (McNemar 1947; no approximation for few images).

    Args:
        first_correct: bool ``[N]``, where the first model is right.
        second_correct: bool ``[N]``, where the second is, on the same images.

    Raises:
        ValueError: The shapes differ.
    """
    if first_correct.shape != second_correct.shape:
        raise ValueError(f"shapes differ: {first_correct.shape}, {second_correct.shape}")
    only_first = int(np.sum(first_correct & ~second_correct))
    only_second = int(np.sum(~first_correct & second_correct))
    n = only_first + only_second
    tail = sum(comb(n, k) for k in range(min(only_first, only_second) + 1))
    # Whole numbers divided once: exact where floats would underflow.
    return McNemar(only_first, only_second, min(1.0, 2 * tail / 2**n))
