"""The commands ``ferserve export`` and ``ferserve quantize``."""

import json
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("export")(export_command)
    app.command("quantize")(quantize_command)


def export_command(
    model: Annotated[
        str, typer.Argument(help="light, crowd, custom_cnn, vgg16, resnet50v2 or ensemble.")
    ],
    data: Annotated[Path, typer.Option(help="FER2013, for the parity check and the card.")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training run; or a released MODEL.onnx, to calibrate it anew.",
            show_default="runs/MODEL; of crowd runs/light",
        ),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(help="Of the ensemble; may be repeated.", show_default="all models in --out"),
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
            help="Subtract so much of the log prior of each emotion: rare ones are found more "
            "often.",
        ),
    ] = 0.0,
    train_faces: Annotated[
        int | None, typer.Option(help="Score only so many Training images, drawn at random.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for what `ferserve evaluate --out` writes.")
    ] = None,
) -> None:
    """Turn a training run into a checked ONNX file with its card.

    The ensemble has a card only: it averages models that were exported before.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from ferserve_training.released import ReleasedError
        from ferserve_training.run_folder import RunError

        from ferserve_export.ensemble import NAME, EnsembleError, export_ensemble
        from ferserve_export.pipeline import CROWD, DESCRIPTIONS, ExportError, export_run
        from ferserve_export.verify import CompressionError, ParityError
    except ModuleNotFoundError as error:
        _fail("export", f"exporting needs {error.name}: pip install 'ferserve[export,cpu]'")
    from ferserve.bundle import ModelError
    from ferserve.fer2013.reader import DatasetError, read_fer2013
    from ferserve.fer2013.votes import read_votes

    folder = run or Path("runs") / ("light" if model == CROWD else model)
    runs = Path("runs") if folder.suffix == ".onnx" else folder.parent
    common = {
        "version": version,
        "predictions": runs / "predictions",
        "train_faces": train_faces,
        "results": results,
        "log": typer.echo,
    }
    try:
        dataset = read_fer2013(data)
        counted = read_votes(votes, dataset) if votes else None
        if model == NAME:
            labels = [name for name in DESCRIPTIONS if name != CROWD]
            members = member or [name for name in labels if (out / f"{name}.json").exists()]
            card = export_ensemble(members, dataset, out, **common)
        else:
            card = export_run(
                model,
                folder,
                dataset,
                out,
                mirror=mirror,
                int8=int8,
                votes=counted,
                prior_fraction=prior_fraction,
                **common,
            )
    except (
        CompressionError,
        DatasetError,
        EnsembleError,
        ExportError,
        ModelError,
        ParityError,
        ReleasedError,
        RunError,
    ) as error:
        _fail("export", str(error))
    typer.echo(json.dumps(card.model_dump()["metrics"], indent=2))
    typer.echo(f"{out / model}.json written, sha256 {card.sha256}")


def quantize_command(
    model: Annotated[
        str, typer.Argument(help="light, crowd, custom_cnn, vgg16, resnet50v2 or ensemble.")
    ],
    data: Annotated[Path, typer.Option(help="FER2013, for the ranges and the figures.")],
    out: Annotated[Path, typer.Option(help="Folder of MODEL.onnx; int8/MODEL.json goes there.")] = (
        Path("models")
    ),
    images: Annotated[
        int | None,
        typer.Option(help="Take ranges from so many images.", min=1, show_default="512"),
    ] = None,
) -> None:
    """Measure what a model needs to be served with FERSERVE_PRECISION=int8, and how well it does.

    The ranges are taken from Training images, the figures from all test images. The members of an
    ensemble come first.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        from ferserve_export.int8 import IMAGES, quantize
    except ModuleNotFoundError as error:
        _fail("quantize", f"it needs {error.name}: pip install 'ferserve[export,cpu]'")
    from ferserve.bundle import ModelError
    from ferserve.fer2013.reader import DatasetError, read_fer2013

    try:
        quantize(model, out, read_fer2013(data), images=images or IMAGES, log=typer.echo)
    except (DatasetError, ModelError) as error:
        _fail("quantize", str(error))
    typer.echo(f"{out / 'int8' / model}.json written")


def _fail(command: str, message: str) -> NoReturn:
    typer.echo(f"ferserve {command}: {message}", err=True)
    raise typer.Exit(1)
