"""The command ``ferserve train``."""

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ferserve_training.evaluate_command import evaluate_command


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)


def train_command(
    model: Annotated[
        str, typer.Argument(help="The model to train: light, custom_cnn, vgg16 or resnet50v2.")
    ],
    data: Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/MODEL")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="default, reference, cpu or continue (big models), long, distill (Custom CNN)."
        ),
    ] = "default",
    backbone_weights: Annotated[
        str, typer.Option(help="Where vgg16 and resnet50v2 start: imagenet, a file, or none.")
    ] = "imagenet",
    start_from: Annotated[
        Path | None,
        typer.Option(help="Go on from a released model, or a run's best.weights.h5."),
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Run to distill from; may stand several times.")
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="FER+ votes about the same faces, a CSV.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="the recipe's")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, show_default="the recipe's")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, mixed_bfloat16 or float32.", show_default="the recipe's"),
    ] = None,
    sides: Annotated[
        str | None,
        typer.Option(
            help="Pixels that faces are upsampled to; 96,160,224: one after the other.",
            show_default="the recipe's",
        ),
    ] = None,
    trainable_from: Annotated[
        str | None,
        typer.Option(
            help="First stage of the backbone that is trained, such as block4; head: none.",
            show_default="the recipe's",
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Share of Training to choose the epoch on; 0 fits on all."
        ),
    ] = 0.1,
    limit: Annotated[
        int | None, typer.Option(min=70, help="Train on this many faces only: a rehearsal.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Finish, annealed, by this time.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all random draws.")] = 0,
    devices: Annotated[
        str | None,
        typer.Option(help="GPUs that share each batch: a number, or all.", show_default="1"),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Keras backend: tensorflow, jax or torch.")
    ] = None,
) -> None:
    """Train a model on FER2013: weights, history and description go to one folder."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from ferserve.fer2013.dataset import DatasetError
    from ferserve.fer2013.reader import read_fer2013
    from ferserve.fer2013.votes import read_votes

    from ferserve_training.errors import TrainingError
    from ferserve_training.recipes import find_recipe

    # What a slip of the keyboard gets wrong is told before Keras takes its seconds to load.
    try:
        chosen = find_recipe(
            model,
            recipe,
            epochs=epochs,
            batch_size=batch_size,
            precision=precision,
            sides=sides,
            trainable_from=trainable_from,
        )
        dataset = read_fer2013(data)
        counted = votes and read_votes(votes, dataset)
    except (TrainingError, DatasetError) as error:
        _fail(str(error))
    try:
        from ferserve_training.errors import TrainingError
        from ferserve_training.train import RunFolder, train
    except ModuleNotFoundError as error:
        _fail(f"training needs {error.name}: pip install 'ferserve[train]'")
    folder = RunFolder(out or Path("runs") / model)
    try:
        train(
            chosen,
            dataset,
            folder,
            backbone_weights=backbone_weights,
            start_from=start_from,
            teachers=teacher or [],
            votes=counted,
            holdout_share=holdout,
            limit=limit,
            max_minutes=max_minutes,
            resume=resume,
            seed=seed,
            devices=devices,
        )
    except TrainingError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        typer.echo(
            f"\nInterrupted; {folder.root} keeps its last checkpoint: use --resume.", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(f"{folder.weights}: the weights; {folder.history} and history.png: the course")


def _fail(message: str) -> NoReturn:
    typer.echo(f"ferserve train: {message}", err=True)
    raise typer.Exit(1)
