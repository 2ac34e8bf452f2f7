"""The command ``ferserve loadtest``.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferserve.command_line import ApiKey, AsJson, fail

if TYPE_CHECKING:
    from rich.table import Table

    from ferserve.loadtest.statistics import Summary

DEFAULT_PATH = "/v1/emotion"


def loadtest_command(
    url: Annotated[
        str,
        typer.Argument(
            help=f"Address of the service, such as http://127.0.0.1:8000; the path is "
            f"{DEFAULT_PATH} by default. A query (?model=…) is sent along.",
            show_default=False,
        ),
    ],
    rate: Annotated[
        float | None, typer.Option(help="Open loop: requests per second, Poisson arrivals.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Several such rates in turn, comma-separated: 10,20,40.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Closed loop: clients that each wait for their answer."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of each run after its warm-up.")
    ] = 10.0,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds of warm-up before each run, not counted.")
    ] = 2.0,
    images: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of images to send in random order, all equally often.",
            show_default="a grey picture of 48x48 pixels",
        ),
    ] = None,
    slo_ms: Annotated[
        float | None, typer.Option(help="Answers within this many milliseconds count as goodput.")
    ] = None,
    max_lag_ms: Annotated[
        float,
        typer.Option(help="An open loop is invalid if its lag's 99th percentile is above this."),
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Longest wait for an answer, seconds.")
    ] = 30.0,
    api_key: ApiKey = None,
    seed: Annotated[int, typer.Option(help="Seed of the images and their times.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the latency and throughput of a service under load.

    Give exactly one of --rate, --sweep and --concurrency. Latency counts from when a request was
    due. The exit status is 1 if a run is invalid.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ferserve.loadtest.generator import run
    from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan, read_images, sample_crop
    from ferserve.loadtest.statistics import summarize

    if [rate, sweep, concurrency].count(None) != 2:
        fail("exactly one of --rate, --sweep and --concurrency is needed", status=2)
    loads: list[OpenLoop | ClosedLoop]
    try:
        payloads = read_images(images) if images else (sample_crop(),)
        if concurrency:
            loads = [ClosedLoop(concurrency)]
        else:
            rates = sweep.split(",") if sweep else [rate or 0]
            loads = [OpenLoop(float(each)) for each in rates]
    except ValueError as error:
        fail(str(error), status=2)
    address = _answering(url, timeout)
    headers = {"X-API-Key": api_key} if api_key else {}
    slo = None if slo_ms is None else slo_ms / 1000
    summaries: list[Summary] = []
    for load in loads:
        plan = Plan(address, load, payloads, seconds, warm_up, timeout, headers, seed)
        # Drawn when there is progress, not by a thread, which would make requests late.
        bar = Progress(console=Console(stderr=True), transient=True, auto_refresh=False)
        task = bar.add_task(str(load), total=plan.total_seconds)
        with bar:
            measured = run(plan, lambda now: bar.update(task, completed=now, refresh=True))  # noqa: B023
        summaries.append(summarize(measured, slo, max_lag_ms / 1000))
    if as_json:
        runs = [
            asdict(summary) | {"load": asdict(load), "valid": summary.valid}
            for load, summary in zip(loads, summaries, strict=True)
        ]
        typer.echo(json.dumps({"url": address, "seed": seed, "runs": runs}, indent=2))
    else:
        Console().print(_table(summaries))
    for summary in summaries:
        for code, count in summary.errors.items():
            typer.echo(f"ferserve: {summary.load}: {count:,} × {code}", err=True)
        for fault in summary.faults:
            typer.echo(f"ferserve: {summary.load}: invalid: {fault}", err=True)
    if not all(summary.valid for summary in summaries):
        raise typer.Exit(1)


def _answering(url: str, timeout: float) -> str:
    """Returns the address to post to; ends the command where nothing answers there."""
    import httpx

    try:
        address = httpx.URL(url)
        if address.path == "/":
            address = address.copy_with(path=DEFAULT_PATH)
        # As the load: through no proxy, with the certificates that the environment names.
        verify = httpx.create_ssl_context()
        httpx.head(address, timeout=timeout, trust_env=False, verify=verify)
    except (httpx.InvalidURL, httpx.TransportError, OSError) as error:
        fail(f"{url}: {error}")
    return str(address)


def _table(summaries: "list[Summary]") -> "Table":
    from rich import box
    from rich.table import Table

    from ferserve.loadtest.statistics import PERCENTILES

    table = Table(
        caption="p50 …: latency from when a request was due, ms; lag: the generator's p99, ms; "
        "(!): invalid",
        box=box.SIMPLE_HEAD,
    )
    names = [f"p{share:g}" for share in PERCENTILES]
    for name in ("load", "sent", "errors", "per s", "goodput", *names, "lag"):
        table.add_column(name, justify="left" if name == "load" else "right", no_wrap=True)
    for summary in summaries:
        figures = (
            summary.rate,
            summary.goodput,
            *(summary.latency_ms[name] for name in names),
            summary.lag_ms and summary.lag_ms["p99"],
        )
        table.add_row(
            summary.load if summary.valid else f"[bold red]{summary.load} (!)[/]",
            str(summary.sent),
            str(sum(summary.errors.values())),
            *("–" if figure is None else f"{figure:.1f}" for figure in figures),
        )
    return table
