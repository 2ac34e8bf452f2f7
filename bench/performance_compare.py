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
        "![Requests a second, processor time and latency](../bench/results/compare.png)",
        "",
        "### Faces of 48×48, Custom CNN",
        "",
        *faces_table(result, cases["faces"]),
        "",
        "*Half load* is half of a service's own saturation; *same load* half of ferserve's. "
        "Processor time is that of all processes of a service at saturation.",
        "",
        "How each was tuned:",
        "",
        *tuning(result, cases["faces"]),
        "",
        "### ResNet50V2",
        "",
        *(
            [f"Not measured: {cases['resnet50v2']['skipped']}."]
            if "skipped" in cases["resnet50v2"]
            else saturation_table(result, cases["resnet50v2"])
        ),
        "",
        "### Photos of 640×480 with a face to be found",
        "",
        *saturation_table(result, cases["photos"]),
        "",
        "The peers are frameworks and bring no detector, so there is nothing of theirs to measure; "
        "*bare* is ferserve's own functions in a loop on every processor.",
        "",
        "### Goals",
        "",
        *verdicts(result),
    ]
    return "\n".join(lines)


def faces_table(result: Result, case: Result) -> list[str]:
    """A row a service: saturation, half load, the same load."""
    bare = [settings[0] for settings in case["bare"]]
    bare_cpu = median(bare, "cpu_seconds_per_face")
    lines = [
        "| service | requests/s | processor ms a face | × bare | alone p50 | half load p50 | p99 "
        "| same load p50 | p99 | errors |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| bare runtime, {bare_setting(case)} | {number(median(bare, 'faces_per_second'))} "
        f"| {number(bare_cpu, 2, 1000)} | 1 | | | | | | |",
    ]
    for name, runs in case["runs"].items():
        if not runs:
            continue
        cpu = median(runs, "saturation", "cpu_seconds_per_face")
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
        lines.append(
            f"| {titled(result, name)} "
            f"| {number(median(runs, 'saturation', 'requests_per_second'))} "
            f"| {number(cpu, 2, 1000)} | {number(cpu / bare_cpu if cpu else None, 2)} "
            f"| {' | '.join(latencies)} | {errors(runs)} |"
        )
    lines += [f"\n{name}: not measured: {why}." for name, why in left_out(result, case).items()]
    return lines + invalid(case)


def saturation_table(result: Result, case: Result) -> list[str]:
    """A row a service: saturation only."""
    bare = [settings[0] for settings in case["bare"]]
    bare_cpu = median(bare, "cpu_seconds_per_face")
    lines = [
        "| service | requests/s | processor ms a face | × bare | p50 | p99 | errors |",
        "|---|---|---|---|---|---|---|",
        f"| bare | {number(median(bare, 'faces_per_second'))} "
        f"| {number(bare_cpu, 2, 1000)} | 1 | | | |",
    ]
    for name, runs in case["runs"].items():
        if not runs:
            continue
        cpu = median(runs, "saturation", "cpu_seconds_per_face")
        p50, p99 = (
            number(median(runs, "saturation", "latency_ms", share)) for share in ("p50", "p99")
        )
        lines.append(
            f"| {titled(result, name)} "
            f"| {number(median(runs, 'saturation', 'requests_per_second'))} "
            f"| {number(cpu, 2, 1000)} | {number(cpu / bare_cpu if cpu else None, 2)} "
            f"| {p50} | {p99} | {errors(runs)} |"
        )
    return lines + invalid(case)


def tuning(result: Result, case: Result) -> list[str]:
    """What was tried of each service, the chosen way first."""
    lines = []
    for name, tuned in case["tuning"].items():
        tried = sorted(tuned["tried"], key=lambda one: -one["requests_per_second"])
        ways = "; ".join(
            f"{one['variant']}, {one['clients']} clients: {one['requests_per_second']:.0f}/s"
            for one in tried
        )
        ways += "".join(f"; {way}: {why}" for way, why in tuned["failed"].items())
        lines.append(f"- {result['services'][name]['title']}: {ways}")
    return lines


def bare_setting(case: Result) -> str:
    """The setting of the bare loop that was the fastest in the first round."""
    best = case["bare"][0][0]
    inside = best["threads_inside_a_run"]
    return f"{best['loops']} × {counted(inside, 'thread', 'threads')}, batch {best['batch']}"


def titled(result: Result, name: str) -> str:
    """A service's title with its version; ours in bold."""
    service = result["services"].get(name, {"title": name})
    version = service.get("versions", {}).get(name)
    return f"**{service['title']}**" if name == "ferserve" else f"{service['title']} {version}"


def errors(runs: list[Result]) -> str:
    """How many requests of all rounds were not answered, by code."""
    counts: dict[str, int] = {}
    for measured in (one for run in runs for one in run.values() if one):
        for code, count in measured["errors"].items():
            counts[code] = counts.get(code, 0) + count
    return ", ".join(f"{count} × {code}" for code, count in counts.items()) or "0"


def left_out(result: Result, case: Result) -> dict[str, str]:
    """Services without figures, by title, and why."""
    why = {
        service["title"]: service["left_out"]
        for service in result["services"].values()
        if "left_out" in service
    }
    for name, reason in case.get("failed", {}).items():
        why[result["services"][name]["title"]] = reason
    return why


def invalid(case: Result) -> list[str]:
    """Measurements that the generator spoilt."""
    found = [
        f"{name}, {load}: {'; '.join(measured['faults'])}"
        for name, runs in case["runs"].items()
        for run in runs
        for load, measured in run.items()
        if measured and measured["faults"]
    ]
    return ["", "Invalid measurements among them:", "", *(f"- {one}" for one in found)] * bool(
        found
    )


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
