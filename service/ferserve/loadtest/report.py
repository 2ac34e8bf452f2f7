"""A load test's results as a table to read and as a document for machines."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from ferserve.loadtest.plan import OpenLoop, Plan
from ferserve.loadtest.statistics import PERCENTILES, Summary


def as_document(
    plans: Sequence[Plan], summaries: Sequence[Summary], slo: float | None, max_lag: float
) -> dict[str, Any]:
    """Returns what can be written as JSON: how it was measured, and each run's figures."""
    first = plans[0]
    return {
        "url": first.url,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "payloads": len(first.payloads),
        "payload_bytes_mean": sum(len(p.data) for p in first.payloads) / len(first.payloads),
        "warm_up_seconds": first.warm_up,
        "processes": first.processes,
        "timeout_seconds": first.timeout,
        "seed": first.seed,
        "slo_ms": None if slo is None else 1000 * slo,
        "max_lag_ms": 1000 * max_lag,
        "runs": [
            _load(plan) | {"valid": summary.valid} | asdict(summary)
            for plan, summary in zip(plans, summaries, strict=True)
        ],
    }


def as_table(summaries: Sequence[Summary]) -> Table:
    """Returns a table with a row a run."""
    with_goodput = any(summary.goodput is not None for summary in summaries)
    names = [f"p{share:g}" for share in PERCENTILES]
    table = Table(
        caption="p50 …: latency from when a request was due, ms; lag: the generator's p99, ms; "
        "(!): invalid",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    rates = ["per s", "goodput"] if with_goodput else ["per s"]
    table.add_column("load", no_wrap=True)
    for name in ("sent", "errors", *rates, *names, "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        latency = summary.latency_ms
        table.add_row(
            summary.load if summary.valid else f"[bold red]{summary.load} (!)[/]",
            str(summary.sent),
            str(sum(summary.errors.values())),
            f"{summary.rate:.1f}",
            *([f"{summary.goodput or 0:.1f}"] if with_goodput else []),
            *(_milliseconds(latency[name]) for name in names),
            _milliseconds(summary.lag_ms["p99"] if summary.lag_ms else None),
        )
    return table


def remarks(summaries: Sequence[Summary]) -> list[str]:
    """Says in words what went wrong: errors by code, and why a run does not count."""
    said = []
    for summary in summaries:
        if summary.errors:
            codes = ", ".join(f"{count:,} × {code}" for code, count in summary.errors.items())
            said.append(f"{summary.load}: errors: {codes}")
        said += [f"{summary.load}: invalid: {fault}" for fault in summary.faults]
    return said


def _load(plan: Plan) -> dict[str, Any]:
    if isinstance(plan.load, OpenLoop):
        return {"kind": "open", "offered_rate": plan.load.rate}
    return {"kind": "closed", "concurrency": plan.load.concurrency}


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
