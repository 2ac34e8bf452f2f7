"""The command ``ferserve loadtest``.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
    from ferserve.loadtest.samples import Measurement
    from ferserve.loadtest.statistics import Summary

DEFAULT_PATH = "/v1/emotion"
INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended."""


def loadtest_command(
    url: Annotated[
        str,
        typer.Argument(
            help=f"Address of the service, such as http://127.0.0.1:8000; without a path "
            f"{DEFAULT_PATH} is meant. A query (?model=…) is sent along.",
            show_default=False,
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(help="Open loop: requests a second at Poisson-distributed times."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Several such rates in turn, comma-separated: 10,20,40.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Closed loop: clients that each wait for their answer."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each run after its warm-up.")] = 10.0,
    warm_up: Annotated[
        float, typer.Option(help="Seconds before that, sent but not counted.")
    ] = 2.0,
    processes: Annotated[int, typer.Option(help="Processes that send.")] = 1,
    images: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of images to send at random, each as often as any other.",
            show_default="a drawn face of 48x48 pixels",
        ),
    ] = None,
    slo_ms: Annotated[
        float | None,
        typer.Option(help="Objective: answers within so many milliseconds are goodput."),
    ] = None,
    max_lag_ms: Annotated[
        float,
        typer.Option(help="An open loop sent later than this, at the 99th percentile, is invalid."),
    ] = 10.0,
    timeout: Annotated[float, typer.Option(help="Longest wait for an answer, seconds.")] = 30.0,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FERSERVE_API_KEY", help="Key, where the service wants one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed sends the same at the same times.")] = 0,
    out: Annotated[
        Path,
        typer.Option(dir_okay=False, help="Where the JSON goes; a plot of that name beside it."),
    ] = Path("loadtest.json"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON instead of a table.")
    ] = False,
) -> None:
    """Measure the latency and throughput of a service under load.

    Exactly one of --rate, --sweep and --concurrency says how much. Latency counts from when a
    request was due. Ctrl-C keeps what was measured. The exit status is 1 where a run is invalid.
    """
    from rich.console import Console

    from ferserve.loadtest import report as reports
    from ferserve.loadtest.payloads import read_images, sample_face
    from ferserve.loadtest.plan import Plan
    from ferserve.loadtest.statistics import summarize

    try:
        payloads = read_images(images) if images else (sample_face(),)
        plans = [
            Plan(
                url=_address(url),
                load=load,
                payloads=payloads,
                seconds=seconds,
                warm_up=warm_up,
                processes=processes,
                timeout=timeout,
                headers={"X-API-Key": api_key} if api_key else {},
                seed=seed,
            )
            for load in _loads(rate, sweep, concurrency)
        ]
    except ValueError as error:
        _fail(str(error), status=2)
    _ask_once(plans[0])
    try:
        measured = _run_all(plans)
    except ChildProcessError as error:
        _fail(str(error))
    slo, max_lag = None if slo_ms is None else slo_ms / 1000, max_lag_ms / 1000
    summaries = [summarize(measurement, slo, max_lag) for measurement in measured]
    document = reports.as_document(plans[: len(measured)], summaries, slo, max_lag)
    out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        Console().print(reports.as_table(summaries))
    _save_plot(out.with_suffix(".png"), measured, summaries)
    for remark in reports.remarks(summaries):
        typer.echo(f"ferserve: {remark}", err=True)
    if any(summary.interrupted for summary in summaries):
        raise typer.Exit(INTERRUPTED)
    if not all(summary.valid for summary in summaries):
        raise typer.Exit(1)


def _loads(
    rate: float | None, sweep: str | None, concurrency: int | None
) -> "list[OpenLoop | ClosedLoop]":
    from ferserve.loadtest.plan import ClosedLoop, OpenLoop

    if [rate, sweep, concurrency].count(None) != 2:
        raise ValueError("exactly one of --rate, --sweep and --concurrency is needed")
    if rate is not None:
        return [OpenLoop(rate)]
    if concurrency is not None:
        return [ClosedLoop(concurrency)]
    try:
        rates = [float(part) for part in (sweep or "").split(",")]
    except ValueError:
        raise ValueError(f"--sweep takes numbers with commas between, not {sweep!r}") from None
    return [OpenLoop(each) for each in rates]


def _address(url: str) -> str:
    import httpx

    address = httpx.URL(url)
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8000")
    return str(address.copy_with(path=DEFAULT_PATH) if address.path == "/" else address)


def _ask_once(plan: "Plan") -> None:
    """Ends the command where nothing answers, whatever the answer would be."""
    import httpx

    payload = plan.payloads[0]
    headers = {**plan.headers, "Content-Type": payload.content_type}
    try:
        httpx.post(plan.url, content=payload.data, headers=headers, timeout=plan.timeout)
    except httpx.TransportError as error:
        _fail(f"{plan.url}: {error}")


def _run_all(plans: "list[Plan]") -> "list[Measurement]":
    """Carries out the plans in turn until one is interrupted."""
    from rich.console import Console
    from rich.progress import Progress

    from ferserve.loadtest.processes import run

    measured: list[Measurement] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for plan in plans:
            bar = progress.add_task(str(plan.load), total=plan.total_seconds)

            def show(elapsed: float, bar: "TaskID" = bar) -> None:
                progress.update(bar, completed=elapsed)

            measured.append(run(plan, show))
            if measured[-1].interrupted_at is not None:
                break
    return measured


def _save_plot(path: Path, measured: "list[Measurement]", summaries: "list[Summary]") -> None:
    try:
        from ferserve.loadtest import plots
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        typer.echo(
            f"ferserve: {path} is not drawn: matplotlib is not installed "
            "(pip install 'ferserve[loadtest]')",
            err=True,
        )
        return
    plots.save(path, measured, summaries)


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"ferserve: {message}", err=True)
    raise typer.Exit(status)
