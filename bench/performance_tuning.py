"""What bench/tuning.py measured as a section of docs/performance.md."""

import statistics
from typing import Any

from performance_compare import counted, machine

Result = dict[str, Any]

NOTABLE = 0.02
"""Smaller differences are not spoken of, however well they repeat."""

WORDS = {"faster": "would be faster", "slower": "slower", "same": "no clear difference", "": ""}


def section(result: Result) -> str:
    """A table a choice, and what did not help."""
    method = result["method"]
    choices = result["choices"]
    helpless = [line for choice in choices for line in ways_that(choice, {"slower", "same"})]
    better = [line for choice in choices for line in ways_that(choice, {"faster"})]
    lines = [
        "## What the CPU path was chosen from",
        "",
        f"{machine(result)}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + f". The ways of a choice were measured in turn, {method['rounds']} times for "
        f"{counted(method['seconds'], 'second', 'seconds')} each: medians, with the least and the "
        "most in brackets. In bold what the service uses. A way is called faster or slower where "
        f"no round of the one overlaps with one of the other and the medians are at least "
        f"{NOTABLE:.0%} apart. `python bench/tuning.py`",
        "",
    ]
    for choice in choices:
        lines += [f"### {choice['title']}", "", *table(choice), ""]
        if choice["remark"]:
            lines += [choice["remark"], ""]
    lines += ["### What did not help", "", *(helpless or ["Nothing was found."]), ""]
    if better:
        lines += ["### What would be faster", "", *better, ""]
    for group, why in result["failed"].items():
        lines += [f"Not measured: {group}: {why}.", ""]
    return "\n".join(lines).rstrip()


def table(choice: Result) -> list[str]:
    """A row a way."""
    unit = choice["unit"]
    columns = list(
        dict.fromkeys(name for way in choice["ways"].values() for name in way["columns"])
    )
    heads = [*("way", f"processor ms a {unit}", f"{unit}s a second"), *columns, ""]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, way in choice["ways"].items():
        cells = [
            f"**{name}**" if name == choice["used"] else name,
            spread(way["cpu_ms"]),
            spread(way["per_second"]),
            *(cell(way["columns"].get(column)) for column in columns),
            WORDS[verdict(choice, name)],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def ways_that(choice: Result, verdicts: set[str]) -> list[str]:
    """Lists the ways of a choice that compare so with the service's, if there are any."""
    ways = [
        f"{name} {difference(choice, name):+.0%}"
        for name in choice["ways"]
        if verdict(choice, name) in verdicts
    ]
    return [f"- {choice['title']}, {BY[choice['judged_by']]}: {'; '.join(ways)}"] if ways else []


def verdict(choice: Result, name: str) -> str:
    """Compares a way with the service's: ``faster``, ``slower``, ``same``, or nothing to say."""
    if choice["used"] in (None, name):
        return ""
    ours, theirs = (costs(choice, each) for each in (choice["used"], name))
    if abs(statistics.median(theirs) / statistics.median(ours) - 1) < NOTABLE:
        return "same"
    if max(theirs) < min(ours):
        return "faster"
    return "slower" if min(theirs) > max(ours) else "same"


def costs(choice: Result, name: str) -> list[float]:
    """What a unit costs, by round: processor time, or the time of all processors."""
    way = choice["ways"][name]
    if choice["judged_by"] == "cpu":
        return list(way["cpu_ms"])
    return [1 / rate for rate in way["per_second"]]


BY = {"cpu": "processor time", "rate": "units a second"}


def difference(choice: Result, name: str) -> float:
    """By how much the median differs from that of the service's way."""
    key = "cpu_ms" if choice["judged_by"] == "cpu" else "per_second"
    ours, theirs = (statistics.median(choice["ways"][each][key]) for each in (choice["used"], name))
    return theirs / ours - 1


def spread(values: list[float]) -> str:
    """The median with the least and the most."""
    least, middle, most = min(values), statistics.median(values), max(values)
    return f"{short(middle)} ({short(least)}–{short(most)})"


def cell(value: Any) -> str:
    """A figure of any kind; of several the median."""
    if isinstance(value, list):
        value = statistics.median(value)
    if isinstance(value, float):
        return short(value)
    return "" if value is None else str(value)


def short(value: float) -> str:
    """Three digits, more before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
