"""The commands ``ferserve export`` and ``ferserve quantize``."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

Precision = Literal["int8", "float16"]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("export")(export_command)
    app.command("quantize")(quantize_command)


def export_command(
    model: Annotated[str, typer.Argument(help="light, crowd, custom_cnn, vgg16 or resnet50v2.")],
    data: Annotated[Path, typer.Option(help="FER2013, for the parity check and the card.")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training run.",
            show_default="runs/MODEL; of crowd runs/light",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for MODEL.onnx and MODEL.json.")] = Path(
        "models"
    ),
    version: Annotated[str, typer.Option(help="Version of the model, for its card.")] = "1.0.0",
    mirror: Annotated[
        bool, typer.Option(help="Average each face with its mirror image inside the graph.")
    ] = True,
    int8: Annotated[
        bool, typer.Option("--int8", help="Store weights as int8: a quarter of the file.")
    ] = False,
    votes: Annotated[
        Path | None,
        typer.Option(help="FER+ votes, CSV: crowd needs them; every model is measured on them."),
    ] = None,
    prior_fraction: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Subtract this share of each emotion's log prior, to find rare emotions more "
            "often.",
        ),
    ] = 0.0,
    train_faces: Annotated[
        int | None, typer.Option(help="Score only this many Training images, drawn at random.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for the report of `ferserve evaluate --out`.")
    ] = None,
) -> None:
    """Turn a training run into a checked ONNX file with its card."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from ferserve_training.errors import TrainingError

        from ferserve_export.errors import ExportError
        from ferserve_export.pipeline import CROWD, export_run
    except ModuleNotFoundError as error:
        _fail("export", f"exporting needs {error.name}: pip install 'ferserve[export,cpu]'")
    from ferserve.fer2013.reader import DatasetError, read_fer2013
    from ferserve.fer2013.votes import read_votes
    from ferserve.sessions import ModelError

    folder = run or Path("runs") / ("light" if model == CROWD else model)
    try:
        dataset = read_fer2013(data)
        counted = read_votes(votes, dataset) if votes else None
        card = export_run(
            model,
            folder,
            dataset,
            out,
            version=version,
            mirror=mirror,
            int8=int8,
            votes=counted,
            prior_fraction=prior_fraction,
            train_faces=train_faces,
            results=results,
            log=typer.echo,
        )
    except (ExportError, DatasetError, ModelError, TrainingError) as error:
        _fail("export", str(error))
    typer.echo(json.dumps(card.model_dump()["metrics"], indent=2))
    typer.echo(f"{out / model}.json written, sha256 {card.sha256}")


def quantize_command(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    data: Annotated[Path, typer.Option(help="FER2013, for the ranges and the figures.")],
    out: Annotated[Path, typer.Option(help="Folder of MODEL.onnx and of the new file.")] = Path(
        "models"
    ),
    to: Annotated[
        Precision,
        typer.Option(help="What convolutions compute in: int8 for CPUs, float16 for GPUs."),
    ] = "int8",
    images: Annotated[
        int, typer.Option(help="Number of images to take the int8 ranges from.", min=1)
    ] = 512,
) -> None:
    """Convert a released model to int8 or float16: MODEL_int8.onnx with a card of its own.

    The int8 ranges come from Training images; the card's figures are measured on all test images.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        from ferserve_export.errors import ExportError
        from ferserve_export.quantize import quantize
    except ModuleNotFoundError as error:
        _fail("quantize", f"quantizing needs {error.name}: pip install 'ferserve[export,cpu]'")
    from ferserve.fer2013.reader import DatasetError, read_fer2013
    from ferserve.sessions import ModelError

    try:
        card = quantize(model, out, read_fer2013(data), precision=to, images=images, log=typer.echo)
    except (DatasetError, ExportError, ModelError) as error:
        _fail("quantize", str(error))
    typer.echo(f"{out / card.name}.onnx written, with its card")


def _fail(command: str, message: str) -> NoReturn:
    typer.echo(f"ferserve {command}: {message}", err=True)
    raise typer.Exit(1)
