# ruff: noqa: T201 - a script that talks to the person who runs it
"""Puts the committed results into docs/performance.md, between its two marks, and draws them.

    python bench/performance.py

A row or table is written of each result that there is in ``bench/results``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from compare import median
from load import REPOSITORY, RESULTS
from matplotlib.figure import Figure

PAGE = REPOSITORY / "docs" / "performance.md"
BEGIN, END = "<!-- figures: bench/performance.py -->", "<!-- end of figures -->"
OURS, THEIRS, LIMIT = "#4a45d6", "#b9b6c4", "#d9572b"

ROWS = {
    "latency": (
        "What does the service add to a lone request?",
        "{milliseconds[added][p50]} ms of {milliseconds[wall][p50]}; "
        "p99 {milliseconds[added][p99]} of {milliseconds[wall][p99]}",
    ),
    "memory": (
        "Does memory stay flat?",
        "{settled_mb} MB after a tenth of {requests:,} requests, at most {growth:.1%} more later",
    ),
    "streams": (
        "Eight cameras at ten frames a second?",
        "{answered:,} of {sent:,} frames answered, p95 {latency_ms[p95]:.0f} ms",
    ),
    "overload": (
        "Four times the capacity?",
        "{goodput_per_second:.0f} photos a second answered of {capacity_per_second:.0f} possible "
        "and {offered_per_second:.0f} offered, the rest refused; p99 {admitted_seconds_p99:.1f} s",
    ),
    "disconnects": (
        "Half of the clients leave?",
        "of {requests:,}, {outcomes[left]} leave and {outcomes[right]} are answered right",
    ),
    "hostile_memory": (
        "What does hostile input cost?",
        "{resident_mb_before_and_after_each_round[0]} MB before, "
        "{resident_mb_before_and_after_each_round[3]} MB after 3 x {requests_a_round} requests",
    ),
    "benchmark_endpoint": (
        "How fast is `/v1/benchmark`?",
        "{speed[endpoint_share_of_best_bare]:.0%} of the bare loop; p99 of a live face "
        "{live_latency[without_benchmark][face_48x48][p99_ms]:.0f} ms, beside a benchmark "
        "{live_latency[with_benchmark][face_48x48][p99_ms]:.0f} ms",
    ),
}
"""By result: a question, and how its answer is put together of the result's figures."""

Result = dict[str, Any]
NOTHING: Result = {"bare": [], "runs": {}}


def main() -> None:
    """Writes the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    found = {file.stem: json.loads(file.read_text()) for file in options.results.glob("*.json")}
    lines = []
    if "compare" in found:
        lines += compared(found["compare"])
        draw(found["compare"], options.results / "compare.png")
    lines += ["| question | answer | measured |", "|---|---|---|"]
    for name, (question, answer) in ROWS.items():
        if name in found:
            cell = answer.format(**found[name])
            if goals := goals_missed(found[name]):
                cell += f"; **missed**: {goals}"
            lines.append(f"| {question} | {cell} | {source(found[name], name)} |")
    text = options.page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + "\n".join([BEGIN, *lines, END]) + after
    options.page.write_text(page, encoding="utf-8")
    print(options.page)


def compared(result: Result) -> list[str]:
    """The services beside each other: a table, the picture, and what has to be known of them."""
    cases, method = result["cases"], result["method"]
    faces, slow = (cases.get(name, NOTHING) for name in ("faces", "resnet50v2"))
    shared = set(method["service_processors"]) & set(method["generator_processors"])
    rate = number(median(faces["bare"], "faces_per_second"))
    cpu = median(faces["bare"], "cpu_seconds_per_face")
    slow_rate = number(median(slow["bare"], "faces_per_second"))
    lines = [
        "| service | faces/s | processor ms a face | alone p50, ms | half load p99 | same load p99 "
        "| memory, MB | faces/s, ResNet50V2 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| bare ONNX Runtime | {rate} | {number(cpu, 1000)} | | | | | {slow_rate} |",
    ]
    for name, runs in faces["runs"].items():
        # At half of its own saturation, ferserve has the same load as at half of ferserve's.
        same = "half" if name == "ferserve" else "same_rate"
        cells = [
            number(median(runs, "saturation", "requests_per_second")),
            number(median(runs, "saturation", "cpu_seconds_per_face"), 1000),
            number(median(runs, "alone", "latency_ms", "p50")),
            number(median(runs, "half", "latency_ms", "p99")),
            number(median(runs, same, "latency_ms", "p99")),
            number(median(runs, "saturation", "resident_mb"), digits=0),
            number(median(slow["runs"].get(name, []), "saturation", "requests_per_second")),
        ]
        lines.append(f"| {titled(result, name)} | {' | '.join(cells)} |")
    cores = len(method["service_processors"])
    lines += [
        "",
        f"{source(result, 'compare')}; {cores} processors for a service, "
        f"{'shared with' if shared else 'others for'} the load generator; medians of "
        f"{method['rounds']} rounds of {method['seconds']:g} s.",
        "",
        "![Requests a second, processor time and latency](../bench/results/compare.png)",
        "",
        *notes(result),
        "",
        "## Other questions",
        "",
    ]
    return lines


def notes(result: Result) -> list[str]:
    """How services were set up, photos, goals that were missed, and what failed."""
    lines, known = [], {"ferserve": "as it comes"}
    for case in result["cases"].values():
        words, runs = case["words"], case["runs"]
        differ = {name: way for name, way in case["settings"].items() if way != known.get(name)}
        known |= differ
        if differ:
            ways = (f"{result['services'][name]['title']} {way}" for name, way in differ.items())
            lines.append(f"- Set up for {words}: {'; '.join(ways)}.")
        rate = median(runs.get("ferserve", []), "saturation", "requests_per_second")
        if rate and not case["bare"]:
            alone = number(median(runs["ferserve"], "alone", "latency_ms", "p50"))
            lines.append(f"- ferserve, {words}: {rate:.1f} a second; a lone one takes {alone} ms.")
        for name, reasons in case["failed"].items():
            lines.append(f"- {titled(result, name)} failed, {words}: {'; '.join(reasons)}.")
        for name, rounds in runs.items():
            for load, one in (pair for loads in rounds for pair in loads.items()):
                for fault in one["faults"] if one else ():
                    lines.append(f"- Invalid: {titled(result, name)}, {words}, {load}: {fault}.")
    return [*lines, f"- Goals missed: {goals_missed(result) or 'none'}."]


def titled(result: Result, name: str) -> str:
    """A service's title, ours in bold, with its version."""
    service = result["services"][name]
    version = service["versions"].get(name)
    title: str = f"{service['title']} {version}" if version else service["title"]
    return f"**{title}**" if name == "ferserve" else title


def source(result: Result, name: str) -> str:
    """The script, the machine and the day."""
    about = result["machine"]
    machine = about.get("processor", about.get("architecture"))
    return f"[`{name}`](../bench/{name}.py), {machine}, {result['date']}"


def goals_missed(result: Result) -> str:
    """The goals that a result missed."""
    return "; ".join(goal for goal, met in result["met"].items() if not met)


def number(value: float | None, factor: float = 1, digits: int = 1) -> str:
    """Rounds for a table; a dash where there is no figure."""
    return "–" if value is None else f"{factor * value:.{digits}f}"


def draw(result: Result, path: Path) -> None:
    """Draws requests a second, processor time and latency of the faces' case as a PNG."""
    case = result["cases"].get("faces", NOTHING)
    if not case["runs"]:
        return
    runs = dict(reversed(case["runs"].items()))
    titles = [result["services"][name]["title"] for name in runs]
    colours = [OURS if name == "ferserve" else THEIRS for name in runs]
    figure = Figure(figsize=(12, 0.9 + 0.45 * len(runs)), layout="constrained")
    panels = {
        "Requests a second at saturation": (("saturation", "requests_per_second"), 1),
        "Processor time a face, ms": (("saturation", "cpu_seconds_per_face"), 1000),
        "p99 at half load, ms": (("half", "latency_ms", "p99"), 1),
    }
    limits = (median(case["bare"], key) for key in ("faces_per_second", "cpu_seconds_per_face"))
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, (where, factor)) in zip(all_axes, panels.items(), strict=True):
        values = [factor * (median(rounds, *where) or 0) for rounds in runs.values()]
        bars = axes.barh(titles, values, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=9)
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if limit := next(limits, None):
            axes.axvline(factor * limit, color=LIMIT, lw=1, ls="--", label="bare ONNX Runtime")
            axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
