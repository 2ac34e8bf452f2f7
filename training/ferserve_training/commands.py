"""The commands ``ferserve train`` and ``ferserve evaluate``."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from ferserve.command_line import AsJson, ModelsDir, fail, settings_of

from ferserve_training import TrainingError
from ferserve_training.recipes import find_recipe

if TYPE_CHECKING:
    from ferserve.fer2013.dataset import Fer2013
    from ferserve.fer2013.votes import Votes

SPLITS = ("all", "public", "private", "leak_free", "train")

COLUMNS = {
    "n": ("images", ","),
    "accuracy": ("accuracy", ".2%"),
    "low": ("95 %:\nfrom", ".1%"),
    "high": ("to", ".1%"),
    "macro_f1": ("macro-F1", ".3f"),
    "ece": ("ECE", ".3f"),
}
VOTES_COLUMNS = {
    "n": ("clear\nmajority", ","),
    "accuracy": ("accuracy", ".2%"),
    "mean_recall": ("mean\nrecall", ".2%"),
    "n_shares": ("with\nshares", ","),
    "cross_entropy": ("cross-\nentropy", ".3f"),
    "js_distance": ("JS\ndistance", ".3f"),
}
"""By field of a split's scores: heading and format."""

Data = Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")]
VotesFile = Annotated[
    Path | None, typer.Option("--votes", help="FER+ votes about the same faces, a CSV.")
]
TrainFaces = Annotated[
    int | None, typer.Option(min=1, help="Score only this many Training images, drawn at random.")
]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)


@contextmanager
def failures_told(extra: str = "train") -> Iterator[None]:
    """Ends the command with a message where the data, a run or a package is not as it must be."""
    from ferserve.fer2013.dataset import DatasetError

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        yield
    except (TrainingError, DatasetError, OSError) as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        package = error.name if error.name in ("jax", "torch") else f"'ferserve[{extra},cpu]'"
        fail(f"this needs {error.name}: pip install {package}")


def read_data(data: Path, votes: Path | None) -> tuple["Fer2013", "Votes | None"]:
    """Reads FER2013 and, if there are any, the votes about its faces."""
    from ferserve.fer2013.reader import read_fer2013
    from ferserve.fer2013.votes import read_votes

    dataset = read_fer2013(data)
    return dataset, read_votes(votes, dataset) if votes else None


def train_command(
    model: Annotated[
        str, typer.Argument(help="The model to train: light, custom_cnn, vgg16 or resnet50v2.")
    ],
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/MODEL")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="default, reference, cpu (big models), long, continue or votes (light)."),
    ] = "default",
    backbone_weights: Annotated[
        str, typer.Option(help="What vgg16 and resnet50v2 start from: imagenet, a file, or none.")
    ] = "imagenet",
    start_from: Annotated[
        Path | None, typer.Option(help="Go on from a released model, or a run's best.weights.h5.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Model (ONNX file) or run to distil from; may be repeated."),
    ] = None,
    votes: VotesFile = None,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="the recipe's")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, show_default="the recipe's")] = None,
    precision: Annotated[
        Literal["auto", "mixed_bfloat16", "float32"] | None,
        typer.Option(show_default="the recipe's"),
    ] = None,
    sides: Annotated[
        str | None,
        typer.Option(
            help="Pixels that faces are upsampled to; 96,160,224: one after the other.",
            show_default="the recipe's",
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Share of Training, 1/N, to choose the epoch on; 0 fits on all."
        ),
    ] = 0.1,
    limit: Annotated[
        int | None, typer.Option(min=70, help="Train on this many faces only: a rehearsal.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Anneal within this time, then score and finish.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    backend: Annotated[
        Literal["tensorflow", "jax", "torch"] | None, typer.Option(help="Keras backend.")
    ] = None,
) -> None:
    """Train a model on FER2013: weights, history and description go to one folder."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    with failures_told():
        # Typos are reported before Keras takes seconds to load.
        chosen = find_recipe(
            model, recipe, sides=sides, epochs=epochs, batch_size=batch_size, precision=precision
        )
        dataset, counted = read_data(data, votes)
        from ferserve_training.train import RunFolder, train

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
            )
        except KeyboardInterrupt:
            typer.echo(
                f"\nInterrupted; {folder.root} keeps its last checkpoint: add --resume.", err=True
            )
            raise typer.Exit(130) from None
    typer.echo(f"{folder.weights}: the weights; {folder.history}: the history")


def evaluate_command(
    model: Annotated[
        str, typer.Argument(help="Name of a model, an ONNX file, or the folder of a training run.")
    ],
    data: Data,
    models_dir: ModelsDir = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split; may be repeated.")
    ] = None,
    train_faces: TrainFaces = None,
    votes: VotesFile = None,
    out: Annotated[Path | None, typer.Option(help="Folder for MODEL.json and MODEL.png.")] = None,
    update_card: Annotated[
        bool,
        typer.Option(
            "--update-card", help="Write the figures of --votes and the cost of a face to the card."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model on FER2013: accuracy, per-class scores, confusion, calibration."""
    path = Path(model)
    if not path.exists():
        path = settings_of(models_dir=models_dir).models_dir / f"{model}.onnx"
    if update_card and (votes is None or not path.with_suffix(".json").is_file()):
        fail("--update-card goes with --votes and a model that has a card")
    unknown = sorted(set(split or ()) - set(SPLITS))
    if unknown:
        fail(f"unknown split {', '.join(unknown)}; known: {', '.join(SPLITS)}")
    with failures_told():
        from ferserve_training.evaluate import evaluate, open_model
        from ferserve_training.evaluation_page import write_report

        predict = open_model(path)
        dataset, counted = read_data(data, votes)
        report = evaluate(predict, dataset, split, train_faces=train_faces, votes=counted)
        if update_card:
            _note_in_card(path.parent, path.stem, report)
        if out:
            write_report(path.stem, report, out, path / "history.csv")
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    intervals = {
        name: scores | dict(zip(("low", "high"), scores["interval"], strict=True))
        for name, scores in report.items()
    }
    _print(intervals, COLUMNS, "Against the labels")
    if votes:
        against = {name: scores["votes"] for name, scores in report.items()}
        _print(against, VOTES_COLUMNS, "Against people's votes")


def _note_in_card(folder: Path, name: str, report: dict[str, Any]) -> None:
    import onnx
    from ferserve.models import read_card

    from ferserve_training.evaluate import vote_scores
    from ferserve_training.multiply_adds import multiply_adds

    card = read_card(folder, name)
    card.multiply_adds = multiply_adds(onnx.load(folder / f"{name}.onnx"))
    card.votes = (card.votes or {}) | vote_scores(report)
    card.write(folder / f"{name}.json")


def _print(
    report: dict[str, dict[str, Any]], columns: dict[str, tuple[str, str]], title: str
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("split", *(heading for heading, _ in columns.values()), title=title)
    for name, scores in report.items():
        figures = [(scores[field], form) for field, (_, form) in columns.items()]
        cells = ["none" if value is None else format(value, form) for value, form in figures]
        table.add_row(name, *cells)
    Console().print(table)
