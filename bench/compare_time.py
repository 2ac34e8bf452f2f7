"""How long a comparison takes."""

from collections.abc import Sequence

from peers.measuring import SETTLE_SECONDS, WARM_UP_SECONDS
from peers.registry import FERSERVE, Peer

START_AND_END = {"ray": 22.0}
"""Seconds to start a service, ask it once, and end it; see ``start_and_end``."""

GENERATOR = 1.5
"""Seconds to start and end the generator's processes."""

BARE_SETTINGS = 10
BARE_WARM_UP = 1.0

SECONDS = (10.0, 8.0, 6.0, 5.0, 4.0)
"""Lengths of a measurement that are tried. Below 4 s a p99 rests on too few answers."""


def start_and_end(peer: Peer) -> float:
    """Seconds, on two processors that do nothing else."""
    return START_AND_END.get(peer.name, 7.0)


def tuning_minutes(
    peers: Sequence[Peer], cores: int, clients: Sequence[Sequence[int]], seconds: float
) -> float:
    """Minutes of the first round that the others do not have.

    Args:
        peers: Without ferserve.
        cores: Of the services.
        clients: Those that are tried, for each model.
        seconds: Length of a measurement.
    """
    one = WARM_UP_SECONDS + seconds / 2 + GENERATOR
    total = 0.0
    for numbers in clients:
        total += BARE_SETTINGS * (BARE_WARM_UP + seconds / 4)
        for peer in (FERSERVE, *peers):
            total += len(peer.variants(cores)) * (start_and_end(peer) + len(numbers) * one)
    return total / 60


def round_minutes(
    peers: Sequence[Peer], latencies: Sequence[bool], photos: bool, seconds: float
) -> float:
    """Minutes of a round.

    Args:
        peers: Without ferserve.
        latencies: For each model, whether latency is measured.
        photos: Whether ferserve is measured with photos.
        seconds: Length of a measurement.
    """
    first = WARM_UP_SECONDS + seconds + GENERATOR
    more = SETTLE_SECONDS + seconds + GENERATOR
    bare = 2 * BARE_WARM_UP + seconds
    total = 0.0
    for latency in latencies:
        for peer in (FERSERVE, *peers):
            total += start_and_end(peer) + first + latency * (2 + (peer is not FERSERVE)) * more
        total += bare
    if photos:
        total += bare + start_and_end(FERSERVE) + first + 2 * more
    return total / 60
