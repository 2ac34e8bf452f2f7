"""What ferserve has to show beside its peers; figures are medians over the rounds."""

import statistics
from typing import Any

SERVERS = ("litserve", "bentoml", "ray")
"""The inference servers that ferserve has to be well ahead of."""

AHEAD = 1.3
CPU_FACTOR, SLOW_CPU_FACTOR = 1.25, 1.05
P50_FACTOR, P99_FACTOR = 1.5, 3.0


def median(runs: list[dict[str, Any]], *path: str) -> float | None:
    """Returns the median over the rounds of a figure that lies at a path; None where it is none."""
    found: list[float] = []
    for run in runs:
        value: Any = run
        for name in path:
            value = value.get(name) if value else None
        if value is not None:
            found.append(value)
    return statistics.median(found) if found else None


def goals(cases: dict[str, Any]) -> dict[str, bool]:
    """Says of each goal whether it was met; a goal that was not measured is left out."""
    met = _of_faces(cases["faces"])
    if "runs" in cases["resnet50v2"]:
        ours, bare = _cpu(cases["resnet50v2"])
        met[f"ResNet50V2: processor time a face at most {SLOW_CPU_FACTOR} x the bare runtime's"] = (
            ours <= SLOW_CPU_FACTOR * bare
        )
    met["no errors"] = not any(
        measured["errors"]
        for case in cases.values()
        for run in case.get("runs", {}).get("ferserve", [])
        for measured in run.values()
        if measured
    )
    return met


def _of_faces(case: dict[str, Any]) -> dict[str, bool]:
    runs = dict(case["runs"])
    ours = runs.pop("ferserve")
    cpu, bare_cpu = _cpu(case)
    alone = _known(median(ours, "alone", "latency_ms", "p50"))
    p50, p99 = (_known(median(ours, "half", "latency_ms", name)) for name in ("p50", "p99"))
    met = {
        f"processor time a face at most {CPU_FACTOR} x the bare runtime's": (
            cpu <= CPU_FACTOR * bare_cpu
        ),
        f"half load: p50 within {P50_FACTOR} x of a lone request": p50 <= P50_FACTOR * alone,
        f"half load: p99 within {P99_FACTOR} x of a lone request": p99 <= P99_FACTOR * alone,
    }
    rates = {name: median(peer, "saturation", "requests_per_second") for name, peer in runs.items()}
    known = {name: rate for name, rate in rates.items() if rate}
    rate = _known(median(ours, "saturation", "requests_per_second"))
    if known:
        met["more requests a second than every peer"] = rate > max(known.values())
        p99s = [
            value
            for peer in runs.values()
            for load in ("half", "same_rate")
            if (value := median(peer, load, "latency_ms", "p99"))
        ]
        met["half load: no peer has a lower p99"] = p99 <= min(p99s, default=float("inf"))
    if servers := [known[name] for name in SERVERS if name in known]:
        met[f"{AHEAD} x as many as LitServe, BentoML and Ray Serve"] = rate >= AHEAD * max(servers)
    return met


def _cpu(case: dict[str, Any]) -> tuple[float, float]:
    """Processor seconds a face at saturation: ferserve's, and the bare loop's fastest setting's."""
    ours = median(case["runs"]["ferserve"], "saturation", "cpu_seconds_per_face")
    bare = median([settings[0] for settings in case["bare"]], "cpu_seconds_per_face")
    return _known(ours), _known(bare)


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
