"""When the requests of an open loop are due."""

import numpy as np
from numpy.typing import NDArray


def poisson_arrivals(
    rate: float, seconds: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draws the arrivals of a Poisson process: what many independent callers add up to.

    Given their number, the arrivals of a Poisson process are uniform and independent (Ross,
    "Introduction to Probability Models", section 5.3); the sum of several such processes is one
    again, so that each generator process may draw its own.

    Args:
        rate: Mean number a second.
        seconds: Length of time.
        random: Where chance comes from.

    Returns:
        float64 ``[n]``, seconds in ``[0, seconds)``, ascending.
    """
    count = random.poisson(rate * seconds)
    return np.sort(random.uniform(0.0, seconds, count))
