"""The commands ``ferserve benchmark`` and ``ferserve robustness``.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import webbrowser
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from ferserve.command_line import fail

if TYPE_CHECKING:
    from rich.table import Table

    from ferserve.benchmark.schemas import BenchmarkResult, ModelResult, Progress
    from ferserve.errors import Refusal

SHORT_WHILE = 2.0
"""Seconds for which a request is repeated: whoever waits at a terminal wants to know soon."""


class SplitChoice(StrEnum):
    """Parts of FER2013."""

    ALL = "all"
    PUBLIC = "public"
    PRIVATE = "private"
    LEAK_FREE = "leak_free"
    TRAIN = "train"


class AgainstChoice(StrEnum):
    """What a right answer is."""

    LABELS = "labels"
    VOTES = "votes"


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
    against: Annotated[
        AgainstChoice, typer.Option(help="What a right answer is; votes: people's majority.")
    ] = AgainstChoice.LABELS,
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

    from ferserve.client import Client, Retries
    from ferserve.errors import Refusal

    if detect and not upload:
        fail("--detect goes with --upload; FER2013's images are faces already", status=2)
    if upload and against is AgainstChoice.VOTES:
        fail("--against votes is of the service's FER2013, not of an --upload", status=2)
    try:
        with Client(url, api_key=api_key, retries=Retries(SHORT_WHILE)) as client, _Bar() as bar:
            job = client.benchmark(
                model or (),
                split=split.value,
                against=against.value,
                limit=limit,
                upload=upload,
                detect="true" if detect else "false",
                progress=bar.show,
            )
            page = client.benchmark_report(job.id) if report else ""
        if report:
            report.write_text(page, encoding="utf-8")
    except Refusal as refusal:
        fail(_why(refusal, url))
    except httpx.HTTPError as error:
        fail(f"{url}: {error}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        fail("interrupted; the benchmark was cancelled", status=130)
    if as_json:
        typer.echo(job.model_dump_json(indent=2))
    elif job.result:
        _print_result(job.result)
    if open_report:
        webbrowser.open(str(httpx.URL(url).join(job.links.report)))
    if min_accuracy is not None:
        _require(min_accuracy, job.accuracy)


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
    from ferserve.fer2013.reader import DatasetError
    from ferserve.sessions import ModelError
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
        fail(str(error))
    typer.echo((out / "robustness.md").read_text(encoding="utf-8"))


class _Bar:
    """Shows on stderr how far a benchmark is."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("waiting", total=None, rate="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, now: "Progress") -> None:
        """Shows a state."""
        self._progress.update(
            self._task,
            description=" ".join(filter(None, (now.stage, now.model))),
            completed=now.done,
            total=now.total or None,
            rate=f"{now.faces_per_second:,.0f} faces/s" if now.faces_per_second else "",
        )


def _why(refusal: "Refusal", url: str) -> str:
    if refusal.code == "cancelled":
        return "it was cancelled"
    if refusal.code.startswith("http_"):
        return f"{url} answered {refusal.status}, not like a ferserve service"
    return f"{refusal.code}: {refusal.detail}"


def _print_result(result: "BenchmarkResult") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "model", "faces", "accuracy", "95 % interval", "macro-F1", "ECE", "faces/s", "p99 batch"
    )
    for one in result.results:
        interval = one.accuracy_interval
        table.add_row(
            one.model.name,
            f"{one.n:,}",
            f"{one.accuracy:.2%}",
            f"{interval.low:.2%} to {interval.high:.2%}",
            f"{one.macro_f1:.2%}",
            f"{one.ece:.2%}",
            f"{one.faces_per_second:,.0f}",
            f"{one.batch_latency_ms.p99:.1f} ms",
        )
    console = Console(markup=False, emoji=False)
    console.print(table)
    if any(one.votes for one in result.results):
        console.print(_votes_table(result.results))
    for pair in result.comparisons:
        console.print(
            f"{pair.first} - {pair.second}: {pair.accuracy_difference:+.2%}, "
            f"McNemar p = {pair.p_value:.2g} "
            f"({pair.only_first_correct} against {pair.only_second_correct} faces)"
        )
    if skipped := result.dataset.skipped:
        console.print(f"{skipped} faces or files were not scored; --json says more")


def _votes_table(results: "list[ModelResult]") -> "Table":
    from rich.table import Table

    votes = {one.model.name: one.votes for one in results if one.votes}
    table = Table("", *votes, title="Against people's votes")

    def add(name: str, values: list[float | None], form: str) -> None:
        table.add_row(name, *("–" if value is None else format(value, form) for value in values))

    for emotion in next(iter(votes.values())).recall:
        add(f"recall of {emotion}", [one.recall[emotion] for one in votes.values()], ".1%")
    add("mean recall", [one.mean_recall for one in votes.values()], ".1%")
    add("cross-entropy", [one.cross_entropy for one in votes.values()], ".3f")
    add("Jensen-Shannon distance", [one.js_distance for one in votes.values()], ".3f")
    return table


def _require(least: float, accuracies: dict[str, float]) -> None:
    below = [f"{name} {value:.4f}" for name, value in accuracies.items() if value < least]
    if below:
        fail(f"below --min-accuracy {least}: {', '.join(below)}")
