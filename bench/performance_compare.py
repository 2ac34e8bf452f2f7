"""The comparison with the peers as a section of docs/performance.md."""

from typing import Any

from peers.goals import median

Result = dict[str, Any]


def section(result: Result) -> str:
    """The services beside each other."""
    method, cases = result["method"], result["cases"]
    shared = set(method["service_processors"]) & set(method["generator_processors"])
    lines = [
        "## Beside the bare runtime and the peers",
        "",
        f"{machine(result)}; {len(method['service_processors'])} processors for a service, "
        f"{'shared with' if shared else 'others for'} the generator, which has "
        f"{counted(method['generator_processes'], 'process', 'processes')}; medians of "
        f"{counted(method['rounds'], 'round', 'rounds')} of {method['seconds']:g} s a measurement. "
        "`python bench/compare.py`",
        "",
    ]
    for name, write in PARTS.items():
        if name in cases:
            lines += [*write(result, cases[name]), ""]
    for service in result["services"].values():
        if "left_out" in service:
            lines += [f"{service['title']} was not measured: {service['left_out']}.", ""]
    return "\n".join([*lines, "### Goals", "", *verdicts(result)])


def faces(result: Result, case: Result) -> list[str]:
    """Faces to the Custom CNN."""
    if "skipped" in case:
        return [f"Faces of 48×48 were not measured: {case['skipped']}."]
    return [
        "![Requests a second, processor time and latency](../bench/results/compare.png)",
        "",
        "### Faces of 48×48, Custom CNN",
        "",
        *faces_table(result, case),
        "",
        "Latencies are milliseconds. *Half load* is half of a service's own saturation; *same "
        "load* half of ferserve's, and a dash where that saturates the service. Processor time is "
        "that of all processes of a service at saturation.",
        "",
        "How each was tuned:",
        "",
        *tuning(result, case),
    ]


def slow_faces(result: Result, case: Result) -> list[str]:
    """Faces to ResNet50V2."""
    if "skipped" in case:
        return ["### Faces of 48×48, ResNet50V2", "", f"Not measured: {case['skipped']}."]
    return [
        "### Faces of 48×48, ResNet50V2",
        "",
        *saturation_table(result, case),
        "",
        "How each was tuned:",
        "",
        *tuning(result, case),
    ]


def photos(result: Result, case: Result) -> list[str]:
    """Whole photos."""
    return [
        "### Photos of 640×480 with a face to be found",
        "",
        *saturation_table(result, case),
        "",
        "The peers are frameworks and bring no detector, so there is nothing of theirs to measure; "
        "*bare* is ferserve's own functions in a loop on every processor.",
    ]


LOADS = {
    "saturation": "saturation",
    "alone": "alone",
    "half": "half load",
    "same_rate": "same load",
}

PARTS = {"faces": faces, "resnet50v2": slow_faces, "photos": photos}


def faces_table(result: Result, case: Result) -> list[str]:
    """A row a service: saturation, half load, the same load."""
    lines = [
        "| service | requests/s | processor ms a face | × bare | alone p50 | half load p50 | p99 "
        "| same load p50 | p99 | errors |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| {bare_cells(case)} | | | | | | |",
    ]
    for name, runs in case["runs"].items():
        latencies = [
            number(median(runs, load, "latency_ms", share))
            for load, share in (
                ("alone", "p50"),
                *(("half", "p50"), ("half", "p99")),
                *(("same_rate", "p50"), ("same_rate", "p99")),
            )
        ]
        if name == "ferserve":
            latencies[3:] = latencies[1:3]
        elif not any(run["same_rate"] for run in runs):
            latencies[3:] = ["–", "–"]
        lines.append(
            f"| {service_cells(result, case, name)} | {' | '.join(latencies)} | {errors(runs)} |"
        )
    return lines + remarks(result, case)


def saturation_table(result: Result, case: Result) -> list[str]:
    """A row a service: saturation only."""
    lines = [
        "| service | requests/s | processor ms a face | × bare | p50, ms | p99, ms | errors |",
        "|---|---|---|---|---|---|---|",
        f"| {bare_cells(case)} | | | |",
    ]
    for name, runs in case["runs"].items():
        p50, p99 = (
            number(median(runs, "saturation", "latency_ms", share)) for share in ("p50", "p99")
        )
        lines.append(f"| {service_cells(result, case, name)} | {p50} | {p99} | {errors(runs)} |")
    return lines + remarks(result, case)


def bare_cells(case: Result) -> str:
    """The bare loop: its setting, rate, processor time, and 1 for the ratio."""
    best = case.get("tuning", {}).get("bare")
    setting = f", {bare_setting(best)}" if best else ""
    rate, cpu = (median(case["bare"], key) for key in ("faces_per_second", "cpu_seconds_per_face"))
    return f"bare{setting} | {number(rate)} | {number(cpu, 2, 1000)} | 1"


def service_cells(result: Result, case: Result, name: str) -> str:
    """A service: its title, rate, processor time, and that over the bare loop's."""
    runs = case["runs"][name]
    rate = median(runs, "saturation", "requests_per_second")
    cpu = median(runs, "saturation", "cpu_seconds_per_face")
    bare = median(case["bare"], "cpu_seconds_per_face")
    ratio = cpu / bare if cpu and bare else None
    cells = (titled(result, name), number(rate), number(cpu, 2, 1000), number(ratio, 2))
    return " | ".join(cells)


def tuning(result: Result, case: Result) -> list[str]:
    """What was tried of each service, the chosen way first."""
    lines = []
    for name, tuned in case["tuning"].items():
        if not tuned:
            continue
        if name == "bare":
            ways = [(one["faces_per_second"], bare_setting(one)) for one in tuned["tried"]]
            title, failed = "Bare loop", {}
        else:
            ways = [
                (one["requests_per_second"], f"{one['variant']}, {one['clients']} clients")
                for one in tuned["tried"]
            ]
            title, failed = result["services"][name]["title"], tuned["failed"]
        tried = [f"{way}: {rate:.0f}/s" for rate, way in sorted(ways, reverse=True)]
        failures = [f"{way}: {why}" for way, why in failed.items()]
        lines.append(f"- {title}: {'; '.join(tried + failures)}")
    return lines


def bare_setting(setting: Result) -> str:
    """A setting of the bare loop in words."""
    inside = setting["threads_inside_a_run"]
    return f"{setting['loops']} × {counted(inside, 'thread', 'threads')}, batch {setting['batch']}"


def titled(result: Result, name: str) -> str:
    """A service's title with its version; ours in bold."""
    service = result["services"][name]
    version = service.get("versions", {}).get(name)
    return f"**{service['title']}**" if name == "ferserve" else f"{service['title']} {version}"


def errors(runs: list[Result]) -> str:
    """How many requests of all rounds were not answered, by code."""
    counts: dict[str, int] = {}
    for measured in (one for run in runs for one in run.values() if one):
        for code, count in measured["errors"].items():
            counts[code] = counts.get(code, 0) + count
    return ", ".join(f"{count} × {code}" for code, count in counts.items()) or "0"


def remarks(result: Result, case: Result) -> list[str]:
    """What failed, and measurements that the generator spoilt."""
    lines = []
    for name, failures in case["failed"].items():
        title = result["services"].get(name, {"title": name})["title"]
        lines += [f"- {title} failed: {failure}" for failure in failures]
    for name, runs in case["runs"].items():
        for number_of_round, run in enumerate(runs, 1):
            for load, measured in run.items():
                faults = measured["faults"] if measured else []
                if faults:
                    lines.append(
                        f"- {titled(result, name)}, {LOADS[load]}, measured a "
                        f"{ordinal(number_of_round)} time: invalid: {'; '.join(faults)}"
                    )
    return ["", *lines] if lines else []


def ordinal(count: int) -> str:
    """Says which one."""
    return {1: "first", 2: "second", 3: "third"}.get(count, f"{count}th")


def machine(result: Result) -> str:
    """Names the machine and the day."""
    about = result["machine"]
    name = about.get("processor", about["architecture"])
    return f"{name}, {about['processors']} processors, {result['date']}"


def verdicts(result: Result) -> list[str]:
    """The goals and whether they were met."""
    return [f"- {'met' if met else '**missed**'}: {goal}" for goal, met in result["met"].items()]


def counted(count: int, one: str, many: str) -> str:
    """Puts a number before a noun."""
    return f"{count} {one if count == 1 else many}"


def number(value: float | None, digits: int = 1, factor: float = 1) -> str:
    """Rounds for a table."""
    return "" if value is None else f"{factor * value:.{digits}f}"
