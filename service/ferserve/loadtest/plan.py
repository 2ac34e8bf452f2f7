"""What a load test does."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ferserve.loadtest.payloads import Payload


@dataclass(frozen=True)
class OpenLoop:
    """Requests at Poisson-distributed times that no answer can delay; ``rate`` a second."""

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"the rate must be above 0, is {self.rate}")

    def __str__(self) -> str:
        return f"{self.rate:g}/s"


@dataclass(frozen=True)
class ClosedLoop:
    """So many clients; each sends its next request when the last was answered."""

    concurrency: int

    def __str__(self) -> str:
        return f"{self.concurrency} client{'s' if self.concurrency > 1 else ''}"


@dataclass(frozen=True)
class Plan:
    """One run against one address.

    Attributes:
        url: Where requests are posted to.
        load: How many, and when.
        payloads: The bodies; each request takes one at random, all equally likely.
        seconds: How long is measured, after the warm-up.
        warm_up: Seconds before; what is due then is sent but not counted.
        timeout: Longest wait for an answer, seconds.
        headers: More headers of every request.
        seed: The same seed sends the same payloads, in an open loop at the same times.
    """

    url: str
    load: OpenLoop | ClosedLoop
    payloads: tuple[Payload, ...]
    seconds: float = 10.0
    warm_up: float = 2.0
    timeout: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def total_seconds(self) -> float:
        """Seconds in which requests are sent."""
        return self.warm_up + self.seconds


def poisson_arrivals(
    rate: float, seconds: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draws the arrivals of a Poisson process: what many independent callers add up to.

    Given their number, they are uniform and independent (Ross, "Introduction to Probability
    Models", section 5.3).

    Returns:
        float64 ``[n]``, seconds in ``[0, seconds)``, ascending.
    """
    return np.sort(random.uniform(0.0, seconds, random.poisson(rate * seconds)))
