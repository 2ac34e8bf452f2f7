"""What the samples of a run say: rates, percentiles, errors, and whether the run counts."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferserve.loadtest.plan import OpenLoop
from ferserve.loadtest.samples import Measurement, Samples

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

MAX_LAG = 0.01
"""Seconds by which an open loop may be late at the 99th percentile: by default a hundredth of what
a person notices."""

MAX_CPU = 0.9
"""Share of a processor above which a generator process has no reserve: it may be what is slow."""


@dataclass(frozen=True)
class Second:
    """What became of the requests that were due in one second of the run.

    Attributes:
        start: From the start of the run, seconds.
        sent: Requests.
        answered: Those of them with a status of 200 to 299.
        p50_ms: Of the latency of those.
        max_ms: Of the latency of those.
    """

    start: int
    sent: int
    answered: int
    p50_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class Summary:
    """A run in figures; of requests that were due after the warm-up.

    Attributes:
        load: The load in words.
        seconds: Length of the window after the warm-up.
        sent: Requests; all of them are ``answered`` or in ``errors``.
        answered: Those with a status of 200 to 299.
        errors: How many of the others, by code.
        rate: Answers a second that came in the window.
        goodput: Those of them that took at most the objective; None without one.
        latency_ms: Of the answered: ``p50`` … ``p99.9``, interpolated between neighbours and None
            where fewer than one answer in the run would lie above; ``mean``, ``max``.
        lag_ms: How late the generator sent: ``p50``, ``p99``, ``max``; None of a closed loop.
        generator_cpu: Processors that the busiest generator process used, 0 to 1.
        over_time: Second by second, the warm-up included.
        interrupted: Whether the run was broken off.
        faults: Why the run does not count; empty where it does.
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
    over_time: list[Second]
    interrupted: bool
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
        slo: Service level objective: an answer that took longer, in seconds, is no goodput.
        max_lag: An open loop later than this many seconds at the 99th percentile does not count.
    """
    plan, samples = measurement.plan, measurement.samples
    begin, end = plan.warm_up, plan.total_seconds
    if measurement.interrupted_at is not None:
        end = max(begin, min(end, measurement.interrupted_at))
    answered = answered_mask(samples)
    due = (samples.intended >= begin) & (samples.intended < end)
    finished = samples.intended + samples.latency
    came = answered & (finished >= begin) & (finished < end)
    seconds = end - begin
    lag_ms = _lag(samples.lag[due]) if isinstance(plan.load, OpenLoop) else None
    busiest = max(measurement.generator_cpu, default=0.0)
    codes = Counter(samples.code[due & ~answered].tolist())
    return Summary(
        load=str(plan.load),
        seconds=seconds,
        sent=int(due.sum()),
        answered=int((due & answered).sum()),
        errors=dict(sorted(codes.items())),
        rate=_per_second(came, seconds),
        goodput=None if slo is None else _per_second(came & (samples.latency <= slo), seconds),
        latency_ms=_latency(samples.latency[due & answered]),
        lag_ms=lag_ms,
        generator_cpu=busiest,
        over_time=_over_time(samples, answered),
        interrupted=measurement.interrupted_at is not None,
        faults=_faults(bool((due & answered).any()), lag_ms, busiest, max_lag),
    )


def answered_mask(samples: Samples) -> NDArray[np.bool_]:
    """Says of each request whether its status was 200 to 299; what is no status is a word."""
    return np.char.startswith(samples.code, "2")


def _faults(
    any_answered: bool, lag_ms: dict[str, float] | None, busiest: float, max_lag: float
) -> list[str]:
    faults = []
    if not any_answered:
        faults.append("no request was answered")
    if lag_ms and lag_ms["p99"] > 1000 * max_lag:
        faults.append(
            f"the generator lagged: p99 {lag_ms['p99']:.1f} ms, allowed {1000 * max_lag:g} ms; "
            "use more processes or another machine"
        )
    if busiest > MAX_CPU:
        faults.append(
            f"a generator process used {busiest:.0%} of a processor and may be what was slow; "
            "use more processes"
        )
    return faults


def _per_second(mask: NDArray[np.bool_], seconds: float) -> float:
    return int(mask.sum()) / seconds if seconds else 0.0


def _latency(seconds: NDArray[np.float64]) -> dict[str, float | None]:
    milliseconds = 1000 * seconds
    count = len(milliseconds)
    found: dict[str, float | None] = {}
    for share in PERCENTILES:
        enough = round(count * (1 - share / 100), 6) >= 1
        found[f"p{share:g}"] = float(np.percentile(milliseconds, share)) if enough else None
    found["mean"] = float(milliseconds.mean()) if count else None
    found["max"] = float(milliseconds.max()) if count else None
    return found


def _lag(seconds: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(seconds):
        return None
    milliseconds = 1000 * seconds
    p50, p99, largest = (float(value) for value in np.percentile(milliseconds, (50, 99, 100)))
    return {"p50": p50, "p99": p99, "max": largest}


def _over_time(samples: Samples, answered: NDArray[np.bool_]) -> list[Second]:
    second = samples.intended.astype(int)
    found = []
    for start in range(int(second.max(initial=-1)) + 1):
        due = second == start
        latency = 1000 * samples.latency[due & answered]
        found.append(
            Second(
                start=start,
                sent=int(due.sum()),
                answered=len(latency),
                p50_ms=float(np.median(latency)) if len(latency) else None,
                max_ms=float(latency.max()) if len(latency) else None,
            )
        )
    return found
