# ruff: noqa: T201 - helps scripts that talk to the person who runs them
"""Draws the committed results: bench/results/<name>.json to <name>.png beside it."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Draws what there is."""
    for name, draw in (("benchmark_endpoint", _benchmark_endpoint), ("overload", _overload)):
        source = RESULTS / f"{name}.json"
        if source.exists():
            draw(json.loads(source.read_text())).savefig(RESULTS / f"{name}.png", dpi=110)
            print(RESULTS / f"{name}.png")


def _benchmark_endpoint(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    speed, latency = figure.subplots(1, 2)
    runs = result["speed"]["bare_faces_per_second_by_batch"]
    rates = {f"bare, batch {batch}": max(values) for batch, values in runs.items()}
    rates["endpoint"] = max(result["speed"]["endpoint_faces_per_second"])
    bars = speed.barh(list(rates), list(rates.values()))
    speed.bar_label(bars, fmt="%.0f", padding=3)
    speed.margins(x=0.15)
    speed.set_title("Faces a second, best round")
    live = result["live_latency"]
    payloads = list(live["without_benchmark"])
    for offset, (case, label) in enumerate(
        (("without_benchmark", "alone"), ("with_benchmark", "beside a benchmark"))
    ):
        places = [row + 0.35 * offset for row in range(len(payloads))]
        values = [live[case][payload]["p99_ms"] for payload in payloads]
        latency.bar_label(latency.barh(places, values, 0.33, label=label), fmt="%.0f", padding=3)
    latency.set_yticks([row + 0.175 for row in range(len(payloads))], payloads)
    latency.margins(x=0.15)
    latency.set_title("p99 of live requests at 2 a second, ms")
    latency.legend()
    return figure


def _overload(result: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    rates = {
        "offered": result["offered_per_second"],
        "capacity": result["capacity_per_second"],
        "answered in time": result["goodput_per_second"],
    }
    axes.bar_label(axes.barh(list(rates), list(rates.values())), fmt="%.1f", padding=3)
    axes.margins(x=0.12)
    axes.set_title(f"Photos a second, {result['seconds']} s of overload")
    return figure


if __name__ == "__main__":
    main()
