"""Puts the committed results into docs/performance.md, between its two marks, and draws them.

    python bench/performance.py

A row or table is written of each result that there is in ``bench/results``.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import median
from load import REPOSITORY, RESULTS
from matplotlib.figure import Figure

BEGIN, END = "<!-- figures: bench/performance.py -->\n", "<!-- end of figures -->\n"
OURS, THEIRS, LIMIT = "#4a45d6", "#b9b6c4", "#d9572b"

ROWS = (
    (
        "latency",
        "What does the service add to a lone request?",
        "{milliseconds[added][p50]} ms of {milliseconds[wall][p50]}; "
        "p99 {milliseconds[added][p99]} of {milliseconds[wall][p99]}",
    ),
    ("memory", "How much memory does it take at rest?", "{at_rest_mb} MB with {model} alone"),
    (
        "memory",
        "Does memory stay flat?",
        "{settled_mb} MB after a tenth of {requests:,} requests, at most {growth:.1%} more later",
    ),
    (
        "streams",
        "Eight cameras at ten frames a second?",
        "{answered:,} of {sent:,} frames answered, p95 {latency_ms[p95]:.0f} ms",
    ),
    (
        "overload",
        "Four times the capacity?",
        "{goodput_per_second:.0f} photos a second answered of {capacity_per_second:.0f} possible "
        "and {offered_per_second:.0f} offered, the rest refused; p99 {admitted_seconds_p99:.1f} s",
    ),
    (
        "disconnects",
        "Half of the clients leave?",
        "of {requests:,}, {outcomes[left]} leave and {outcomes[right]} are answered right",
    ),
)
"""Result, question, and how its answer is put together of the result's figures."""

COLUMNS: dict[str, tuple[tuple[str, ...], float]] = {
    "faces/s": (("saturation", "requests_per_second"), 1),
    "processor ms a face": (("saturation", "cpu_seconds_per_face"), 1000),
    "alone p50, ms": (("alone", "latency_ms", "p50"), 1),
    "half load p99, ms": (("half", "latency_ms", "p99"), 1),
    "same load p99, ms": (("same_rate", "latency_ms", "p99"), 1),
    "memory, MB": (("saturation", "resident_mb"), 1),
}
"""Where a column's figure stands in a run, and by what it is multiplied."""

PHOTO_COLUMNS = ("faces/s", "alone p50, ms", "memory, MB")
BARE = {"faces_per_second": 1, "cpu_seconds_per_face": 1000}

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "performance.md")
    options = parser.parse_args()
    found = {file.stem: json.loads(file.read_text()) for file in options.results.glob("*.json")}
    lines: list[str] = []
    if "compare" in found:
        lines += compared(found["compare"], found.get("accuracy", {"services": {}})["services"])
        draw(found["compare"], options.results / "compare.png")
    lines += ["| question | answer | measured |", "|---|---|---|", *answers(found)]
    before, _, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    table = "".join(f"{line}\n" for line in lines)
    page = before + BEGIN + table + END + rest.partition(END)[2]
    options.page.write_text(page, encoding="utf-8")
    print(options.page)


def answers(found: dict[str, Result]) -> Iterator[str]:
    """Yields a row for each question that the results answer."""
    for name, question, answer in ROWS:
        try:
            cell = answer.format(**found[name])
        except KeyError:  # not measured, or not yet by today's script
            continue
        if goals := missed(found[name]):
            cell += f"; **missed**: {goals}"
        yield f"| {question} | {cell} | {source(found[name], name)} |"


def compared(result: Result, accuracy: Result) -> Iterator[str]:
    """Yields the services beside each other, the picture, and what has to be known of them."""
    cases, method = result["cases"], result["method"]
    faces, other = cases["faces"], cases["custom_cnn"]
    first, last = (f"{case['words'].rpartition(', ')[2]}: faces/s" for case in (faces, other))
    columns = [first, *list(COLUMNS)[1:], last]
    yield f"| service | {' | '.join(columns)} |"
    yield "|---|" + len(columns) * "---:|"
    bare = [number(median(faces["bare"], key), factor) for key, factor in BARE.items()]
    limit = number(median(other["bare"], "faces_per_second"))
    yield f"| bare ONNX Runtime | {' | '.join([*bare, *4 * [''], limit])} |"
    for name, runs in faces["runs"].items():
        # At half of its own saturation, ferserve has the same load as at half of ferserve's.
        ours = [one | {"same_rate": one["half"]} for one in runs] if name == "ferserve" else runs
        cells = [number(median(ours, *path), factor) for path, factor in COLUMNS.values()]
        cells.append(number(median(other["runs"].get(name, []), *COLUMNS["faces/s"][0])))
        yield f"| {titled(result, name)} | {' | '.join(cells)} |"
    shared = set(method["service_processors"]) & set(method["generator_processors"])
    yield from (
        "",
        f"{source(result, 'compare')}; {len(method['service_processors'])} processors for a "
        f"service, {'shared with' if shared else 'others for'} the load generator; medians of "
        f"{method['rounds']} rounds of {method['seconds']:g} s.",
        "",
        "![Requests a second, processor time and latency](../bench/results/compare.png)",
        "",
        *photos(result, accuracy),
        "",
        *notes(result),
        "",
        "## Other questions",
        "",
    )


def photos(result: Result, accuracy: Result) -> Iterator[str]:
    """Yields those that find faces themselves beside each other."""
    case = result["cases"]["photos"]
    words = "photos/s", "alone p50, ms", "memory, MB", "installed, MB"
    columns = [*words, "right: FER2013 labels", "right: FER+ majority"]
    yield f"| {case['words']} | {' | '.join(columns)} |"
    yield "|---|" + len(columns) * "---:|"
    for name, runs in case["runs"].items():
        known = accuracy.get(name, {})
        cells = [number(median(runs, *COLUMNS[key][0])) for key in PHOTO_COLUMNS]
        cells.append(number(result["services"][name].get("installed_mb")))
        cells += [f"{known[key]:.1%}" if key in known else "–" for key in ("labels", "votes")]
        yield f"| {titled(result, name)} | {' | '.join(cells)} |"


def notes(result: Result) -> Iterator[str]:
    """Yields what failed, and goals that were missed."""
    for case in result["cases"].values():
        for name, reasons in case["failed"].items():
            yield f"- {titled(result, name)} failed, {case['words']}: {'; '.join(reasons)}."
    if goals := missed(result):
        yield f"- Missed goals: {goals}."


def titled(result: Result, name: str) -> str:
    service = result["services"][name]
    title = " ".join(filter(None, (service["title"], service["versions"].get(name))))
    return f"**{title}**" if name == "ferserve" else title


def source(result: Result, name: str) -> str:
    machine = result["machine"]
    return f"[`{name}`](../bench/{name}.py), {machine['processor']}, {result['date']}"


def missed(result: Result) -> str:
    return "; ".join(f"“{goal}”" for goal, met in result["met"].items() if not met)


def number(value: float | None, factor: float = 1) -> str:
    """Rounds for a table; a dash where there is no figure."""
    return "–" if value is None else f"{factor * value:.{0 if factor * value >= 1000 else 1}f}"


def draw(result: Result, path: Path) -> None:
    """Draws requests a second, processor time and latency of the faces' case as a PNG."""
    case = result["cases"]["faces"]
    runs = dict(reversed(case["runs"].items()))
    titles = [result["services"][name]["title"] for name in runs]
    colours = [OURS if name == "ferserve" else THEIRS for name in runs]
    figure = Figure(figsize=(12, 0.9 + 0.45 * len(runs)), layout="constrained")
    limits = [factor * (median(case["bare"], key) or 0) for key, factor in BARE.items()]
    panels = ("faces/s", "processor ms a face", "half load p99, ms")
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, title, limit in zip(all_axes, panels, [*limits, 0], strict=True):
        where, factor = COLUMNS[title]
        values = [factor * (median(rounds, *where) or 0) for rounds in runs.values()]
        bars = axes.barh(titles, values, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=9)
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if limit:
            axes.axvline(limit, color=LIMIT, lw=1, ls="--", label="bare ONNX Runtime")
            axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
