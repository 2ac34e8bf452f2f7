"""Draws what bench/compare.py measured."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from peers.goals import median

OURS, THEIRS, LIMIT = "#4a45d6", "#b9b6c4", "#d9572b"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws requests a second, processor time and latency of the faces' case as a PNG.

    Nothing is drawn where that was not measured.
    """
    case = result["cases"].get("faces", {})
    if not case.get("runs"):
        return
    runs = {name: rounds for name, rounds in reversed(case["runs"].items()) if rounds}
    titles = [result["services"][name]["title"] for name in runs]
    colours = [OURS if name == "ferserve" else THEIRS for name in runs]
    bare = case["bare"]
    figure = Figure(figsize=(12, 0.9 + 0.45 * len(runs)), layout="constrained")
    rate, cpu, latency = figure.subplots(1, 3, sharey=True)
    values = [median(rounds, "saturation", "requests_per_second") for rounds in runs.values()]
    _bars(rate, titles, values, colours, "Requests a second at saturation", "%.0f")
    _limit(rate, median(bare, "faces_per_second"))
    values = [
        1000 * (median(rounds, "saturation", "cpu_seconds_per_face") or 0)
        for rounds in runs.values()
    ]
    _bars(cpu, titles, values, colours, "Processor time a face, ms", "%.1f")
    _limit(cpu, 1000 * (median(bare, "cpu_seconds_per_face") or 0))
    values = [median(rounds, "half", "latency_ms", "p99") for rounds in runs.values()]
    _bars(latency, titles, values, colours, "p99 at half load, ms", "%.0f")
    figure.savefig(path, dpi=110)


def _bars(
    axes: Axes,
    titles: list[str],
    values: list[float] | list[float | None],
    colours: list[str],
    title: str,
    form: str,
) -> None:
    bars = axes.barh(titles, [value or 0 for value in values], color=colours)
    labels = [form % value if value else "" for value in values]  # too few answers for a p99
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.margins(x=0.15)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _limit(axes: Axes, value: float | None) -> None:
    if value:
        axes.axvline(value, color=LIMIT, lw=1, ls="--", label="bare ONNX Runtime")
        axes.legend(fontsize=8, loc="lower right")
