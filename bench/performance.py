# ruff: noqa: T201 - a script that talks to the person who runs it
"""Puts the committed results into docs/performance.md, between its two marks.

    python bench/performance.py

A section is written of each result that there is in ``bench/results``, and its plot beside it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare_plot import draw
from load import REPOSITORY, RESULTS
from performance_compare import machine, section, verdicts

PAGE = REPOSITORY / "docs" / "performance.md"
BEGIN, END = "<!-- figures: bench/performance.py -->", "<!-- end of figures -->"

Result = dict[str, Any]


def main() -> None:
    """Writes the page and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    sections = []
    for name, write in SECTIONS.items():
        source = options.results / f"{name}.json"
        if source.exists():
            sections.append(write(json.loads(source.read_text(encoding="utf-8"))))
    compared = options.results / "compare.json"
    if compared.exists():
        draw(json.loads(compared.read_text(encoding="utf-8")), options.results / "compare.png")
    before, _, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + "\n\n".join([BEGIN, *sections, END]) + after
    options.page.write_text(page, encoding="utf-8")
    print(options.page)


def latency(result: Result) -> str:
    """What the service adds to a lone request."""
    parts = result["milliseconds"]
    return "\n".join(
        [
            "## A lone request",
            "",
            f"{machine(result)}; {result['requests']:,} faces of 48×48 one after another. "
            "`python bench/latency.py`",
            "",
            "| milliseconds | p50 | p90 | p99 |",
            "|---|---|---|---|",
            *(
                f"| {name.replace('_', ' ')} | {part['p50']} | {part['p90']} | {part['p99']} |"
                for name, part in parts.items()
            ),
            "",
            "*Added* is all but inference, the client's own time among it.",
            "",
            *verdicts(result),
        ]
    )


def memory(result: Result) -> str:
    """Resident memory over many requests."""
    points = result["resident_mb_by_requests"]
    first, last = points[0], points[-1]
    return "\n".join(
        [
            "## Memory",
            "",
            f"{result['requests']:,} requests ({result['payloads']}): {first[1]} MB after "
            f"{first[0]:,}, {result['settled_mb']} MB after a tenth, {last[1]} MB in the end; "
            f"growth after a tenth {result['growth']:.1%}. `python bench/memory.py`",
            "",
            *verdicts(result),
        ]
    )


def benchmark_endpoint(result: Result) -> str:
    """`POST /v1/benchmark` beside the bare loop."""
    speed = result["speed"]
    rates = speed["endpoint_faces_per_second"]
    return "\n".join(
        [
            "## `POST /v1/benchmark`",
            "",
            f"{speed['faces']:,} faces through the batcher's background lane: "
            f"{min(rates):.0f} to {max(rates):.0f} faces a second, "
            f"{speed['endpoint_share_of_best_bare']:.2f} of the best bare loop. "
            "`python bench/benchmark_endpoint.py --data fer2013.zip`",
            "",
            "![Its speed, and live latency beside it](../bench/results/benchmark_endpoint.png)",
        ]
    )


def overload(result: Result) -> str:
    """Four times the capacity."""
    return "\n".join(
        [
            "## Overload",
            "",
            f"{result['offered_per_second']:.0f} photos a second offered for "
            f"{result['seconds']:.0f} s to a service that can answer "
            f"{result['capacity_per_second']:.0f}: {result['goodput_per_second']:.0f} a second "
            f"answered in time, {result['goodput_share_of_capacity']:.0%} of its capacity. "
            "`python bench/overload.py`",
            "",
            "![Offered, capacity, answered in time](../bench/results/overload.png)",
        ]
    )


SECTIONS: dict[str, Callable[[Result], str]] = {
    "compare": section,
    "latency": latency,
    "memory": memory,
    "benchmark_endpoint": benchmark_endpoint,
    "overload": overload,
}

if __name__ == "__main__":
    main()
