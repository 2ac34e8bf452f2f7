"""A load test in one picture; needs matplotlib, the extra ``loadtest``."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ferserve.loadtest.plan import OpenLoop
from ferserve.loadtest.samples import Measurement
from ferserve.loadtest.statistics import Summary, answered_mask

DOTS = 4000
"""Most requests shown of a run over time; more would be a solid area."""

DPI = 110


def save(path: Path, measurements: Sequence[Measurement], summaries: Sequence[Summary]) -> None:
    """Draws the runs into a PNG: latency over time, percentiles, latency by rate."""
    draw(measurements, summaries).savefig(path, dpi=DPI, format="png")


def draw(measurements: Sequence[Measurement], summaries: Sequence[Summary]) -> Figure:
    """Draws the runs; they belong together in order."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    over_time, percentiles, by_rate = figure.subplots(1, 3)
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(measurements)))
    for measurement, summary, colour in zip(measurements, summaries, colours, strict=True):
        _over_time(over_time, measurement, summary, colour)
        _percentiles(percentiles, measurement, colour)
    over_time.set(
        title="Latency over time", xlabel="due, seconds from the start", ylabel="milliseconds"
    )
    warm_up = measurements[0].plan.warm_up
    if warm_up:
        over_time.axvspan(0, warm_up, color="0.5", alpha=0.15, lw=0, label="warm-up")
    over_time.legend(fontsize=8, markerscale=3)
    percentiles.set(title="Latency by percentile", ylabel="milliseconds", xscale="log")
    most = max(2, *(summary.answered for summary in summaries))
    ticks = [tick for tick in (2, 10, 100, 1000, 10_000, 100_000) if tick <= most]
    percentiles.set_xticks(ticks, [f"{100 - 100 / tick:g}" for tick in ticks])
    percentiles.minorticks_off()
    _by_rate(by_rate, measurements, summaries)
    for axes in (over_time, percentiles, by_rate):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    return figure


def _over_time(
    axes: Axes, measurement: Measurement, summary: Summary, colour: Sequence[float]
) -> None:
    samples = measurement.samples
    chosen = np.flatnonzero(answered_mask(samples))
    chosen = chosen[:: max(1, len(chosen) // DOTS)]
    axes.plot(
        samples.intended[chosen],
        1000 * samples.latency[chosen],
        ".",
        ms=2,
        color=colour,
        label=summary.load if summary.valid else f"{summary.load} (invalid)",
    )


def _percentiles(axes: Axes, measurement: Measurement, colour: Sequence[float]) -> None:
    samples = measurement.samples
    shown = answered_mask(samples) & (samples.intended >= measurement.plan.warm_up)
    latency = np.sort(1000 * samples.latency[shown])
    one_of = len(latency) / np.arange(len(latency), 0, -1)  # 1 of so many is as slow or slower
    axes.plot(one_of, latency, color=colour)


def _by_rate(axes: Axes, measurements: Sequence[Measurement], summaries: Sequence[Summary]) -> None:
    """By offered rate where it was given, by the rate reached in a closed loop."""
    rates = [
        plan.load.rate if isinstance(plan.load, OpenLoop) else summary.rate
        for plan, summary in zip((m.plan for m in measurements), summaries, strict=True)
    ]
    order = np.argsort(rates)
    for name in ("p50", "p90", "p99"):
        values = [summaries[index].latency_ms[name] for index in order]
        known = [value if value is not None else np.nan for value in values]
        axes.plot([rates[index] for index in order], known, "o-", ms=4, label=name)
    axes.set(title="Latency by rate", xlabel="requests a second", ylabel="milliseconds")
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
