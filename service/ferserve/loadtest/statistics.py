"""What a run says: rates, percentiles, errors, and whether it counts."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.loadtest.generator import Measurement
from ferserve.loadtest.plan import OpenLoop

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

MAX_LAG = 0.01
"""Seconds by which an open loop may be late at the 99th percentile: by default a tenth of what a
person notices."""

MAX_CPU = 0.9
"""Share of a processor above which the generator has no reserve: it may be what is slow."""


@dataclass(frozen=True)
class Summary:
    """A run in figures; of requests that were due after the warm-up.

    Those ``sent`` were ``answered`` with a status of 200 to 299, or are in ``errors`` by code.
    ``rate`` is of answers a second in the window of ``seconds``, ``goodput`` of those within the
    objective. ``latency_ms``, of the answered, has ``p50`` … ``p99.9``, ``mean`` and ``max``; a
    percentile is None where fewer than one answer in the run would lie above. ``lag_ms`` has
    ``p50``, ``p99`` and ``max`` of how late an open loop sent. ``faults`` say why a run is invalid.
    """

    load: str
    seconds: float
    sent: int
    answered: int
    errors: dict[str, int]
    rate: float
    goodput: float | None
    latency_ms: dict[str, float | None]
    lag_ms: dict[str, float] | None
    generator_cpu: float
    faults: list[str]

    @property
    def valid(self) -> bool:
        """Whether the run counts."""
        return not self.faults


def summarize(
    measurement: Measurement, slo: float | None = None, max_lag: float = MAX_LAG
) -> Summary:
    """Works out the figures of a run.

    Latency counts from when a request was due, so that a generator or a server that stalls cannot
    hide what callers would have waited ("coordinated omission", a term of Gil Tene's).

    Args:
        measurement: The run.
        slo: Service level objective: an answer that took longer, in seconds, does not count.
        max_lag: An open loop later than this many seconds at the 99th percentile does not count.
    """
    plan, intended, latency = measurement.plan, measurement.intended, measurement.latency
    answered = measurement.answered
    finished = intended + latency
    due = (intended >= plan.warm_up) & (intended < plan.total_seconds)
    came = answered & (finished >= plan.warm_up) & (finished < plan.total_seconds)
    lag_ms = None
    if isinstance(plan.load, OpenLoop) and due.any():
        shares = np.percentile(1000 * measurement.lag[due], (50, 99, 100)).tolist()
        lag_ms = dict(zip(("p50", "p99", "max"), shares, strict=True))
    faults = []
    if not (due & answered).any():
        faults.append("no request was answered")
    if lag_ms and lag_ms["p99"] > 1000 * max_lag:
        faults.append(
            f"the generator lagged: p99 {lag_ms['p99']:.1f} ms, allowed {1000 * max_lag:g} ms; "
            "send less, or from another machine"
        )
    if measurement.generator_cpu > MAX_CPU:
        faults.append(
            f"the generator used {measurement.generator_cpu:.0%} of a processor and may be what "
            "was slow; send less, or from several machines"
        )
    in_time = None if slo is None else came & (latency <= slo)
    return Summary(
        load=str(plan.load),
        seconds=plan.seconds,
        sent=int(due.sum()),
        answered=int((due & answered).sum()),
        errors=dict(sorted(Counter(measurement.code[due & ~answered].tolist()).items())),
        rate=int(came.sum()) / plan.seconds,
        goodput=None if in_time is None else int(in_time.sum()) / plan.seconds,
        latency_ms=_latency(1000 * latency[due & answered]),
        lag_ms=lag_ms,
        generator_cpu=measurement.generator_cpu,
        faults=faults,
    )


def _latency(milliseconds: NDArray[np.float64]) -> dict[str, float | None]:
    count = len(milliseconds)
    found: dict[str, float | None] = {}
    for share in PERCENTILES:
        enough = round(count * (1 - share / 100), 6) >= 1
        found[f"p{share:g}"] = float(np.percentile(milliseconds, share)) if enough else None
    found["mean"] = float(milliseconds.mean()) if count else None
    found["max"] = float(milliseconds.max()) if count else None
    return found
