"""The command ``ferserve score``. Heavy imports are inside, so that ``--help`` is quick."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ferserve.command_line import Detect, ModelsDir, fail, settings_of

if TYPE_CHECKING:
    from ferserve.score.run import Summary


def score_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Folder of images or of Parquet files, one file, or a URI of it."
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Folder for Parquet files, or its URI.")
    ],
    column: Annotated[
        str | None,
        typer.Option(help="Column of the images in Parquet.", show_default="image"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    detect: Annotated[
        Detect, typer.Option(help="Look for faces; auto does not in images of up to 64 pixels.")
    ] = Detect.AUTO,
    batch_size: Annotated[int, typer.Option(min=1, help="Images handed on at a time.")] = 32,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that score.", show_default="by processors")
    ] = None,
    models_dir: ModelsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Rate the faces of many images, on Ray: Parquet with a row for each image.

    Run again, it goes on where it ended. An image that cannot be answered costs one row, which
    says why.
    """
    settings = settings_of(models=model, default_model=model, models_dir=models_dir)
    try:
        from ferserve.score.run import Job, score
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; pip install 'ferserve[cluster]'")
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from ferserve.bundle import ModelError
    from ferserve.cluster.settings import ClusterSettings
    from ferserve.schemas import EmotionOptions

    options = EmotionOptions(detect=detect.value)
    job = Job(source, target, options, column, batch_size, workers)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("images", total=None)
            summary = score(
                job,
                settings,
                ClusterSettings(),
                lambda done, total: progress.update(bar, completed=done, total=total),
            )
    except (ModelError, OSError) as error:
        fail(str(error))
    except ValueError as error:
        fail(str(error), status=2)
    if as_json:
        typer.echo(json.dumps(summary.document(), indent=2))
    else:
        _print(summary)


def _print(summary: "Summary") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "images")
    table.add_row("scored now", f"{summary.tally.images:,}")
    for code, count in summary.tally.problems.most_common():
        table.add_row(f"  of which {code}", f"{count:,}")
    table.add_row("scored before", f"{summary.skipped:,}")
    table.add_row("faces found now", f"{summary.tally.faces:,}")
    Console().print(table)
