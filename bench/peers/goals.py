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
    met: dict[str, bool] = {}
    if _measured(cases.get("faces", {})):
        met |= _of_faces(cases["faces"])
    if _measured(cases.get("resnet50v2", {})):
        ours, bare = _cpu(cases["resnet50v2"])
        met[f"ResNet50V2: processor time a face at most {SLOW_CPU_FACTOR} x the bare runtime's"] = (
            ours <= SLOW_CPU_FACTOR * bare
        )
    ours = [run for case in cases.values() for run in case.get("runs", {}).get("ferserve", [])]
    failed = any("ferserve" in case.get("failed", {}) for case in cases.values())
    if ours or failed:
        met["no errors"] = not failed and not any(each["errors"] for each in _all(ours))
    everyone = [runs for case in cases.values() for runs in case.get("runs", {}).values()]
    if everyone:
        met["every measurement valid"] = not any(
            each["faults"] for runs in everyone for each in _all(runs)
        )
    return met


def _all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [measured for run in runs for measured in run.values() if measured]


def _measured(case: dict[str, Any]) -> bool:
    return bool(case.get("bare")) and "ferserve" in case.get("runs", {})


def _of_faces(case: dict[str, Any]) -> dict[str, bool]:
    ours = case["runs"]["ferserve"]
    peers = {name: runs for name, runs in case["runs"].items() if name != "ferserve"}
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
    rates = {
        name: median(runs, "saturation", "requests_per_second") for name, runs in peers.items()
    }
    known = {name: rate for name, rate in rates.items() if rate}
    rate = _known(median(ours, "saturation", "requests_per_second"))
    if known:
        met["more requests a second than every peer"] = rate > max(known.values())
        p99s = [
            value
            for runs in peers.values()
            for load in ("half", "same_rate")
            if (value := median(runs, load, "latency_ms", "p99"))
        ]
        met["half load: no peer has a lower p99"] = p99 <= min(p99s, default=float("inf"))
    if servers := [known[name] for name in SERVERS if name in known]:
        met[f"{AHEAD} x as many as LitServe, BentoML and Ray Serve"] = rate >= AHEAD * max(servers)
    return met


def _cpu(case: dict[str, Any]) -> tuple[float, float]:
    """Processor seconds a face at saturation: ferserve's, and the bare loop's."""
    ours = median(case["runs"]["ferserve"], "saturation", "cpu_seconds_per_face")
    return _known(ours), _known(median(case["bare"], "cpu_seconds_per_face"))


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
