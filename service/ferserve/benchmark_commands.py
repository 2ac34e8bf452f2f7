"""The commands ``ferserve benchmark`` and ``ferserve robustness``.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ferserve.command_line import ApiKey, AsJson, ModelsDir, fail, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve.benchmark.schemas import BenchmarkResult, Progress


def benchmark_command(
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model to measure; several are compared.", show_default="the default"),
    ] = None,
    split: Annotated[
        Literal["all", "public", "private", "leak_free", "train"],
        typer.Option(help="Part of FER2013."),
    ] = "all",
    against: Annotated[
        Literal["labels", "votes"],
        typer.Option(help="What a right answer is: the label, or what most people voted."),
    ] = "labels",
    upload: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Zip of class folders to measure on, instead of the service's FER2013.",
        ),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Look for the face in each uploaded image.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only this many faces, evenly spread.")
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a model's accuracy (0 to 1) is lower."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File for the report, an HTML page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracy of models that a service serves; a gate for CI.

    The exit status is 1 if the benchmark failed or --min-accuracy was missed.
    """
    import httpx
    from rich.console import Console
    from rich.progress import Progress as Bar

    from ferserve.client import Client, Retries
    from ferserve.errors import Refusal

    if detect and not upload:
        fail("--detect needs --upload; FER2013's images are faces already", status=2)
    if upload and (split, against) != ("all", "labels"):
        fail("--split and --against need the service's FER2013, not an --upload", status=2)
    if report and not report.parent.is_dir():
        fail(f"{report.parent}: no such folder; --report FILE says where the page goes", status=2)
    soon = Retries(total_seconds=2)  # a user at a terminal wants to know
    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task("waiting", total=None)

    def show(now: "Progress") -> None:
        stage = " ".join(filter(None, (now.stage, now.model)))
        bar.update(task, description=stage, completed=now.done, total=now.total or None)

    try:
        with Client(url, api_key=api_key, retries=soon) as client, bar:
            job = client.benchmark(
                model or (),
                split=split,
                against=against,
                limit=limit,
                upload=upload,
                detect="true" if detect else "false",
                progress=show,
            )
            if report:
                report.write_text(client.benchmark_report(job.id), encoding="utf-8")
    except Refusal as refusal:
        fail(f"{url}: {refusal.code}: {refusal.detail}")
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
    least = min_accuracy or 0
    below = [f"{name} {value:.4f}" for name, value in job.accuracy.items() if value < least]
    if below:
        fail(f"below --min-accuracy {least}: {', '.join(below)}")


def robustness_command(
    models: Annotated[list[str], typer.Argument(help="Names of models.")],
    data: Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")],
    votes: Annotated[
        Path | None, typer.Option(help="FER+ votes; models that answer with votes need them.")
    ] = None,
    models_dir: ModelsDir = None,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File for the page.")] = Path(
        "docs/robustness.md"
    ),
) -> None:
    """Measure what other crops, rotation, blur, light and compression cost in accuracy.

    A model that answers with FER+ votes is measured against people's majority. The figures go
    into the models' cards, and the figures of all cards onto a page.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ferserve.benchmark import robustness
    from ferserve.fer2013.reader import DatasetError, read_fer2013
    from ferserve.fer2013.votes import read_votes, with_majority
    from ferserve.models import available_models, load_model, read_card
    from ferserve.sessions import ModelError, Runtime

    if not out.parent.is_dir():
        fail(f"{out.parent}: no such folder; --out FILE says where the page goes", status=2)
    folder = settings_of(models_dir=models_dir).models_dir
    try:
        dataset = read_fer2013(data)
        right = {"FER2013 labels": dataset.test}
        if votes:
            counts = read_votes(votes, dataset).of(dataset.test)
            right["FER+ votes"] = with_majority(dataset.test, counts)
        runtime = Runtime(max_batch=robustness.BATCH)
        loaded = {name: load_model(folder, name, runtime) for name in models}
        for name, model in loaded.items():
            if model.card.answers not in right:
                fail(f"{name} answers as people would: it needs --votes PATH")
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for name, model in loaded.items():
                faces = right[model.card.answers]
                bar = progress.add_task(name, total=len(robustness.PERTURBATIONS) * len(faces))
                advance = partial(progress.advance, bar)
                model.card.robustness = robustness.measure(model, faces, advance)
                model.card.write(folder / f"{name}.json")
        page = robustness.page(read_card(folder, name) for name in available_models(folder))
        out.write_text(page, encoding="utf-8")
    except (DatasetError, ModelError, OSError) as error:
        fail(str(error))


def _print_result(result: "BenchmarkResult") -> None:
    from rich.console import Console
    from rich.table import Table

    ours = result.results
    table = Table("", *(one.model.name for one in ours))

    def add(name: str, form: str, values: "Sequence[float | None]") -> None:
        table.add_row(name, *("–" if value is None else format(value, form) for value in values))

    add("faces", ",", [one.n for one in ours])
    add("accuracy", ".2%", [one.accuracy for one in ours])
    add("95 % interval, from", ".2%", [one.accuracy_interval.low for one in ours])
    add("to", ".2%", [one.accuracy_interval.high for one in ours])
    add("macro-F1", ".2%", [one.macro_f1 for one in ours])
    add("ECE", ".2%", [one.ece for one in ours])
    for emotion in ours[0].per_class:
        add(f"recall of {emotion}", ".1%", [one.per_class[emotion].recall for one in ours])
    if votes := [one.votes for one in ours if one.votes]:
        add("mean recall", ".1%", [one.mean_recall for one in votes])
        add("cross-entropy", ".3f", [one.cross_entropy for one in votes])
        add("Jensen-Shannon distance", ".3f", [one.js_distance for one in votes])
    add("faces/s", ",.0f", [one.faces_per_second for one in ours])
    console = Console(markup=False, emoji=False)
    console.print(table)
    for pair in result.comparisons:
        console.print(
            f"{pair.first} - {pair.second}: {pair.accuracy_difference:+.2%}, "
            f"McNemar p = {pair.p_value:.2g} "
            f"({pair.only_first_correct} against {pair.only_second_correct} faces)"
        )
    if skipped := result.dataset.skipped:
        console.print(f"{skipped} faces or files were not scored; --json says more")
