"""The command ``ferserve``: ``serve``, ``score`` and ``models`` here, the others in their places.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import importlib
import importlib.util
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from ferserve import logs
from ferserve.benchmark_commands import benchmark_command, robustness_command
from ferserve.command_line import AsJson, Detect, ModelsDir, fail, runtime_needed, settings_of
from ferserve.loadtest.command import loadtest_command
from ferserve.predict.command import predict_command


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    models_dir: ModelsDir = None,
    engine: Annotated[
        Literal["process", "ray"],
        typer.Option(help="One process, or replicas on Ray (FERSERVE_CLUSTER_…)."),
    ] = "process",
) -> None:
    """Serve the models over HTTP.

    Every setting is an environment variable FERSERVE_…; options given here override them.
    """
    settings = settings_of(host=host, port=port, models_dir=models_dir)
    from ferserve.settings import unknown_variables

    logs.configure(settings.log_format)
    if unknown := unknown_variables():
        logging.getLogger(__name__).warning("unknown settings, ignored: %s", ", ".join(unknown))
    from ferserve.api import server

    if engine == "process":
        server.run(settings)
        return
    with _cluster_errors():
        from ferserve import cluster

        cluster.run(settings)


def score_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Folder of images or Parquet files, one file, or its URI."
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Folder for Parquet files, or its URI.")
    ],
    column: Annotated[str, typer.Option(help="Parquet column with the images.")] = "image",
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    detect: Detect = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that score.", show_default="by processors")
    ] = None,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Rate the faces in many images on Ray, and write Parquet with a row for each image.

    Run again, it goes on where it stopped. The row of an image that cannot be answered says why.
    """
    settings = settings_of(models=model, default_model=model, models_dir=models_dir)
    with _cluster_errors():
        from rich.console import Console
        from rich.progress import Progress
        from rich.table import Table

        from ferserve.score import score
        from ferserve.settings import ClusterSettings

        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("images", total=None)
            summary = score(
                source,
                target,
                settings,
                ClusterSettings(),
                lambda done, total: progress.update(bar, completed=done, total=total),
                detect=detect,
                column=column,
                workers=workers,
            )
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table("what", "images")
    table.add_row("scored now", f"{summary['scored']:,}")
    for code, count in summary["problems"].items():
        table.add_row(f"  of which {code}", f"{count:,}")
    table.add_row("scored before", f"{summary['skipped']:,}")
    table.add_row("faces found now", f"{summary['faces']:,}")
    Console().print(table)


@contextmanager
def _cluster_errors() -> Iterator[None]:
    from ferserve.sessions import ModelError

    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; pip install 'ferserve[cluster]'")
    except ModelError as error:
        fail(str(error))
    except (OSError, ValueError) as error:
        fail(str(error), status=2)


def models_command(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the models that can be served, with their measured accuracy."""
    settings = settings_of(models_dir=models_dir)
    from ferserve.models import read_card
    from ferserve.serving import default_name, served_names
    from ferserve.sessions import ModelError

    try:
        names = served_names(settings)
        cards = [read_card(settings.models_dir, name) for name in names]
    except ModelError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([card.model_dump() for card in cards], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Accuracy against FER2013's labels and people's majority")
    table.add_column("model", no_wrap=True)
    for heading in ("answers with", "labels,\nall", "labels,\nleak-free", "majority,\nprivate"):
        table.add_column(heading)
    for card in cards:
        of_votes = (card.votes or {}).get("private")
        accuracies = [
            f"{scores.accuracy:.1%}" if scores and scores.accuracy is not None else "–"
            for scores in (card.metrics.get("all"), card.metrics.get("leak_free"), of_votes)
        ]
        name = f"{card.name} (default)" if card.name == default_name(settings, names) else card.name
        table.add_row(name, card.answers, *accuracies)
    Console().print(table)


OPTIONAL_PACKAGES = ("ferserve_training", "ferserve_export")
"""Each has a module ``commands`` that registers the package's own commands."""

app = typer.Typer(
    name="ferserve",
    help="Facial-expression recognition: train, export and serve.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold images
)
app.command("serve")(runtime_needed()(serve_command))
app.command("predict")(runtime_needed()(predict_command))
app.command("models")(runtime_needed()(models_command))
app.command("benchmark")(benchmark_command)
app.command("robustness")(runtime_needed()(robustness_command))
app.command("loadtest")(loadtest_command)
app.command("score")(runtime_needed()(score_command))
for package in OPTIONAL_PACKAGES:
    if importlib.util.find_spec(package):
        importlib.import_module(f"{package}.commands").register(app)
