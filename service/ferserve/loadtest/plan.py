"""What a load test does, and what it sends."""

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ferserve.inputs import as_bytes
from ferserve.predict.sources import IMAGES


@dataclass(frozen=True)
class Payload:
    """The body of a request, and its media type."""

    data: bytes
    content_type: str


@dataclass(frozen=True)
class OpenLoop:
    """Poisson arrivals that no answer can delay; ``rate`` a second."""

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"the rate must be above 0, is {self.rate}")

    def __str__(self) -> str:
        return f"{self.rate:g}/s"


@dataclass(frozen=True)
class ClosedLoop:
    """A number of clients; each sends its next request when the last was answered."""

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
    Models", section 5.3). Returns float64 ``[n]``, seconds in ``[0, seconds)``, ascending.
    """
    return np.sort(random.uniform(0.0, seconds, random.poisson(rate * seconds)))


def read_images(folder: Path) -> tuple[Payload, ...]:
    """Reads all image files below a folder; ValueError where there is none."""
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file()
    )
    if not files:
        raise ValueError(f"{folder}: holds no image ({', '.join(sorted(IMAGES))})")
    return tuple(
        Payload(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        for path in files
    )


def sample_crop() -> Payload:
    """Makes a 48x48 grey picture: at that size no detector runs."""
    return Payload(as_bytes(Image.linear_gradient("L").resize((48, 48))), "image/png")
