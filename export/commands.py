"""The command ``ferserve export``."""

import json
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("export")(export_command)


def export_command(
    model: Annotated[str, typer.Argument(help="custom_cnn, vgg16 or resnet50v2.")],
    data: Annotated[Path, typer.Option(help="FER2013, for the parity check and the card.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the training run.", show_default="runs/MODEL")
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
) -> None:
    """Turn a training run into a checked ONNX file with its card."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from export.pipeline import ExportError, export_run
        from export.verify import CompressionError, ParityError
        from training.run_folder import RunError
    except ModuleNotFoundError as error:
        _fail(f"exporting needs {error.name}: pip install 'ferserve[export,cpu]'")
    from fer2013.reader import DatasetError, read_fer2013

    folder = run or Path("runs") / model
    try:
        card = export_run(
            model,
            folder,
            read_fer2013(data),
            out,
            version=version,
            mirror=mirror,
            int8=int8,
            log=typer.echo,
        )
    except (CompressionError, DatasetError, ExportError, ParityError, RunError) as error:
        _fail(str(error))
    typer.echo(json.dumps(card.model_dump()["metrics"], indent=2))
    typer.echo(f"{out / model}.onnx and {model}.json written, sha256 {card.sha256}")


def _fail(message: str) -> NoReturn:
    typer.echo(f"ferserve export: {message}", err=True)
    raise typer.Exit(1)
