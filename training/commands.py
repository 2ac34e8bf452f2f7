"""The command ``ferserve train``."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("train")(train_command)


def train_command(
    model: Annotated[str, typer.Argument(help="The model to train: custom_cnn.")],
    data: Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/MODEL")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="the recipe's")] = None,
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
    backend: Annotated[
        str | None, typer.Option(help="Keras backend: tensorflow, jax or torch.")
    ] = None,
) -> None:
    """Train a model on FER2013: weights, history and description go to one folder."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from fer2013.reader import DatasetError, read_fer2013
    from training.recipes import RECIPES

    # What a slip of the keyboard gets wrong is told before Keras takes its seconds to load.
    if model not in RECIPES:
        _fail(f"unknown model {model!r}; known: {', '.join(RECIPES)}")
    try:
        dataset = read_fer2013(data)
    except DatasetError as error:
        _fail(str(error))
    try:
        from training.train import RunError, RunFolder, train
    except ModuleNotFoundError as error:
        _fail(f"training needs {error.name}: pip install 'ferserve[train]'")
    recipe = RECIPES[model]
    if epochs:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    folder = RunFolder(out or Path("runs") / model)
    try:
        train(
            recipe,
            dataset,
            folder,
            holdout_share=holdout,
            limit=limit,
            max_minutes=max_minutes,
            resume=resume,
            seed=seed,
        )
    except RunError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        typer.echo(
            f"\nInterrupted; {folder.root} keeps the last whole epoch: use --resume.", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(f"{folder.weights}: the weights; {folder.history} and history.png: the course")


def _fail(message: str) -> NoReturn:
    typer.echo(f"ferserve train: {message}", err=True)
    raise typer.Exit(1)
