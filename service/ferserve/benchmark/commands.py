"""The commands ``ferserve benchmark`` and ``ferserve robustness``.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import contextlib
import json
import webbrowser
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import httpx

READ_SECONDS = 60.0
"""Longest silence of the server; its event stream speaks every 15 s."""


class SplitChoice(StrEnum):
    """Parts of FER2013."""

    ALL = "all"
    PUBLIC = "public"
    PRIVATE = "private"
    LEAK_FREE = "leak_free"
    TRAIN = "train"


def benchmark_command(
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FERSERVE_API_KEY", help="Key, where the service wants one."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name of a model; several are compared.", show_default="the default one"),
    ] = None,
    split: Annotated[SplitChoice, typer.Option(help="Part of FER2013.")] = SplitChoice.ALL,
    upload: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A zip of class folders to measure on, in place of the service's FER2013.",
        ),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Look for the face in each uploaded image.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only that many faces, evenly spread.")
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a model's accuracy (0 to 1) is below."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Save the report, a page of HTML, here.")
    ] = None,
    open_report: Annotated[
        bool, typer.Option("--open", help="Show the report in the browser.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of a table.")
    ] = False,
) -> None:
    """Measure the accuracy of models that a service serves; a gate for CI.

    The exit status is 1 where the benchmark did not succeed or --min-accuracy was missed.
    """
    import httpx

    if detect and not upload:
        _fail("--detect goes with --upload; FER2013's images are faces already", status=2)
    asked = {"compare": model or [], "limit": limit}
    headers = {"X-API-Key": api_key} if api_key else {}
    with httpx.Client(base_url=url, timeout=READ_SECONDS, headers=headers) as client:
        try:
            if upload:
                job = _start_upload(client, upload, asked, detect)
            else:
                job = _answer(client.post("/v1/benchmark", json=asked | {"split": split.value}))
            job = _follow(client, job)
            if report and job["status"] == "succeeded":
                page = _checked(client.get(client.base_url.join(job["links"]["report"])))
                report.write_text(page.text, encoding="utf-8")
        except httpx.HTTPError as error:
            _fail(f"{url}: {error}")
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}")
    if as_json:
        typer.echo(json.dumps(job, indent=2))
    elif job["status"] == "succeeded":
        _print_result(job["result"])
    if job["status"] != "succeeded":
        problem = job["problem"]
        _fail(f"{problem['code']}: {problem['detail']}" if problem else "it was cancelled")
    if open_report:
        webbrowser.open(str(httpx.URL(url).join(job["links"]["report"])))
    if min_accuracy is not None:
        _require(min_accuracy, job["accuracy"])


def robustness_command(
    models: Annotated[list[str], typer.Argument(help="Names of models.")],
    data: Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")],
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of the models.", show_default="FERSERVE_MODELS_DIR")
    ] = None,
    split: Annotated[SplitChoice, typer.Option(help="Part of FER2013.")] = SplitChoice.ALL,
    limit: Annotated[
        int | None, typer.Option(min=7, help="Only that many faces, evenly spread: a rehearsal.")
    ] = None,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of robustness.md and robustness.json.")
    ] = Path("docs"),
    update_card: Annotated[
        bool, typer.Option("--update-card", help="Note the figures in the models' cards too.")
    ] = False,
) -> None:
    """Measure how accuracy suffers from other crops, rotation, blur, light and compression.

    Entries of other models in OUT/robustness.json stay.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ferserve.benchmark import robustness
    from ferserve.benchmark.dataset import OperatorDataset
    from ferserve.bundle import ModelError
    from ferserve.fer2013.reader import DatasetError
    from ferserve.settings import Settings

    folder = models_dir or Settings().models_dir
    try:
        faces = OperatorDataset(data).select(split.value, limit)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for name in models:
                bar = progress.add_task(name, total=robustness.work(faces))
                found = robustness.measure(
                    folder, name, faces, split.value, partial(progress.advance, bar)
                )
                robustness.write(out, found)
                if update_card:
                    robustness.note_in_card(folder, found)
    except (DatasetError, ModelError) as error:
        _fail(str(error))
    typer.echo((out / "robustness.md").read_text(encoding="utf-8"))


def _start_upload(
    client: "httpx.Client", path: Path, asked: dict[str, Any], detect: bool
) -> dict[str, Any]:
    fields = {"detect": "true" if detect else "false"}
    if asked["compare"]:
        fields["compare"] = ",".join(asked["compare"])
    if asked["limit"]:
        fields["limit"] = str(asked["limit"])
    with path.open("rb") as file:
        return _answer(client.post("/v1/benchmark", data=fields, files={"file": file}))


def _follow(client: "httpx.Client", job: dict[str, Any]) -> dict[str, Any]:
    """Shows a job's progress until it ends, and returns it; an interruption cancels it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    here, links = client.base_url, job["links"]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("waiting", total=None, rate="")
            with client.stream("GET", here.join(links["events"])) as events:
                for state in _states(events):
                    now = state["progress"]
                    rate = now["faces_per_second"]
                    progress.update(
                        bar,
                        description=" ".join(filter(None, (now["stage"], now["model"]))),
                        completed=now["done"],
                        total=now["total"] or None,
                        rate=f"{rate:,.0f} faces/s" if rate else "",
                    )
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            client.delete(here.join(links["self"]))
        _fail("interrupted; the benchmark was cancelled", status=130)
    return _answer(client.get(here.join(links["self"])))


def _states(events: "httpx.Response") -> Iterator[dict[str, Any]]:
    for line in _checked(events).iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def _answer(response: "httpx.Response") -> dict[str, Any]:
    answer: dict[str, Any] = _checked(response).json()
    return answer


def _checked(response: "httpx.Response") -> "httpx.Response":
    """Passes a good answer on; ends the command with the problem of a bad one."""
    if response.is_success:
        return response
    response.read()
    try:
        problem = response.json()
        _fail(f"{problem['code']}: {problem['detail']}")
    except (ValueError, KeyError, TypeError):
        _fail(f"{response.url} answered {response.status_code}, not like a ferserve service")


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "model", "faces", "accuracy", "95 % interval", "macro-F1", "ECE", "faces/s", "p99 batch"
    )
    for one in result["results"]:
        interval = one["accuracy_interval"]
        table.add_row(
            one["model"]["name"],
            f"{one['n']:,}",
            f"{one['accuracy']:.2%}",
            f"{interval['low']:.2%} to {interval['high']:.2%}",
            f"{one['macro_f1']:.2%}",
            f"{one['ece']:.2%}",
            f"{one['faces_per_second']:,.0f}",
            f"{one['batch_latency_ms']['p99']:.1f} ms",
        )
    console = Console(markup=False, emoji=False)
    console.print(table)
    for pair in result["comparisons"]:
        console.print(
            f"{pair['first']} - {pair['second']}: {pair['accuracy_difference']:+.2%}, "
            f"McNemar p = {pair['p_value']:.2g} "
            f"({pair['only_first_correct']} against {pair['only_second_correct']} faces)"
        )
    if skipped := result["dataset"]["skipped"]:
        console.print(f"{skipped} files were not scored; --json names them")


def _require(least: float, accuracies: dict[str, float]) -> None:
    below = [f"{name} {value:.4f}" for name, value in accuracies.items() if value < least]
    if below:
        _fail(f"below --min-accuracy {least}: {', '.join(below)}")


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"ferserve: {message}", err=True)
    raise typer.Exit(status)
