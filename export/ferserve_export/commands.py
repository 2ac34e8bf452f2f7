"""The commands ``ferserve export`` and ``ferserve quantize``."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from ferserve.command_line import ModelsDir, settings_of
from ferserve_training.commands import Data, TrainFaces, VotesFile, failures_told, read_data


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("export")(export_command)
    app.command("quantize")(quantize_command)


def export_command(
    model: Annotated[str, typer.Argument(help="light, crowd, custom_cnn, vgg16 or resnet50v2.")],
    data: Data,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training run.", show_default="runs/MODEL; for crowd runs/light"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for both files.")] = Path("models"),
    version: Annotated[str, typer.Option(help="Version of the model, for its card.")] = "1.0.0",
    mirror: Annotated[
        bool, typer.Option(help="Average each face with its mirror image inside the graph.")
    ] = True,
    int8: Annotated[
        bool, typer.Option("--int8", help="Store weights as int8: a quarter of the file.")
    ] = False,
    votes: VotesFile = None,
    calibration_run: Annotated[
        Path | None,
        typer.Option(
            help="For a --holdout 0 run: one of its recipe with a hold-out, to calibrate on."
        ),
    ] = None,
    train_faces: TrainFaces = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for the report of `ferserve evaluate --out`.")
    ] = None,
) -> None:
    """Turn a training run into a checked ONNX file with its card."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with failures_told("export"):
        from ferserve_export.pipeline import CROWD, export_run

        dataset, counted = read_data(data, votes)
        card = export_run(
            model,
            run or Path("runs") / ("light" if model == CROWD else model),
            dataset,
            out,
            version=version,
            mirror=mirror,
            int8=int8,
            votes=counted,
            calibration_run=calibration_run,
            train_faces=train_faces,
            results=results,
            log=typer.echo,
        )
    typer.echo(json.dumps(card.model_dump()["metrics"], indent=2))
    typer.echo(f"{out / model}.json written, sha256 {card.sha256}")


def quantize_command(
    model: Annotated[str, typer.Argument(help="Name of the model to convert.")],
    data: Data,
    out: ModelsDir = None,
    to: Annotated[
        Literal["int8", "float16"],
        typer.Option(help="What convolutions compute in: int8 for CPUs, float16 for GPUs."),
    ] = "int8",
) -> None:
    """Convert a released model to int8 or float16: MODEL_int8.onnx with a card of its own.

    The int8 ranges come from Training images; the card's figures are measured on all test images.
    """
    with failures_told("export"):
        from ferserve_export.quantize import quantize

        dataset, _ = read_data(data, None)
        folder = settings_of(models_dir=out).models_dir
        card = quantize(model, folder, dataset, precision=to, log=typer.echo)
    typer.echo(f"{folder / card.name}.onnx written, with its card")
