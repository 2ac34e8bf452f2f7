"""The command ``ferserve evaluate``."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

SPLITS = ("all", "public", "private", "leak_free", "train")


def evaluate_command(
    model: Annotated[
        str, typer.Argument(help="Name of a model, an ONNX file, or the folder of a training run.")
    ],
    data: Annotated[Path, typer.Option(help="FER2013: Kaggle zip, its folder, or fer2013.csv.")],
    models_dir: Annotated[Path, typer.Option(help="Where a named model is.")] = Path("models"),
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split; may be repeated.")
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average each face with its mirror image; --no-mirror also takes that out of an "
            "ONNX file.",
            show_default="an ONNX file as it is served, a run without",
        ),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="A run's history.csv, for the learning curve.")
    ] = None,
    train_faces: Annotated[
        int | None, typer.Option(help="Score only so many Training images, drawn at random.")
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="FER+ votes, CSV: score the model against people's answers too."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for MODEL.json and MODEL.png; with --no-mirror for MODEL_no_mirror.json."
        ),
    ] = None,
    update_card: Annotated[
        bool,
        typer.Option(
            "--update-card", help="Note the figures of --votes and the cost of a face in the card."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a model on FER2013: accuracy, per-class scores, confusion, calibration."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from ferserve.fer2013.dataset import DatasetError
    from ferserve.fer2013.reader import read_fer2013
    from ferserve.fer2013.votes import read_votes

    from ferserve_training.errors import TrainingError
    from ferserve_training.evaluate import evaluate, open_model

    path = Path(model)
    if not path.exists():
        path = models_dir / f"{model}.onnx"
    has_card = path.is_file() and path.with_suffix(".json").is_file()
    if update_card and (votes is None or mirror is not None or not has_card):
        _fail("--update-card goes with --votes and a model that has a card, as it is served")
    unknown = sorted(set(split or ()) - set(SPLITS))
    if unknown:
        _fail(f"unknown split {', '.join(unknown)}; known: {', '.join(SPLITS)}")
    try:
        predict = open_model(path, mirror=mirror)
        dataset = read_fer2013(data)
        counted = votes and read_votes(votes, dataset)
        report = evaluate(predict, dataset, split, train_faces=train_faces, votes=counted)
        if update_card:
            _note_in_card(path.parent, path.stem, report)
    except (DatasetError, TrainingError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        _fail(f"evaluating needs {error.name}: pip install 'ferserve[train,cpu]'")
    if out and mirror is False:
        from ferserve_training.evaluation_page import write_report_without_mirror

        write_report_without_mirror(path, report, out)
    elif out:
        from ferserve_training.evaluation_page import write_report

        if history is None and (path / "history.csv").is_file():
            history = path / "history.csv"
        write_report(path.stem, report, out, history)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(report)
        if votes:
            _print_votes({name: scores["votes"] for name, scores in report.items()})


def _note_in_card(folder: Path, name: str, report: dict[str, Any]) -> None:
    """Completes the card; the ONNX file is not touched."""
    import onnx
    from ferserve.models import read_card

    from ferserve_training.evaluate import vote_scores
    from ferserve_training.multiply_adds import multiply_adds

    card = read_card(folder, name)
    card.multiply_adds = multiply_adds(onnx.load(folder / f"{name}.onnx"))
    card.votes = (card.votes or {}) | vote_scores(report)
    card.write(folder / f"{name}.json")


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("split", "images", "accuracy", "95 % interval", "macro-F1", "ECE")
    for name, scores in report.items():
        low, high = scores["interval"]
        table.add_row(
            name,
            f"{scores['n']:,}",
            f"{scores['accuracy']:.2%}",
            f"{low:.1%} to {high:.1%}",
            f"{scores['macro_f1']:.3f}",
            f"{scores['ece']:.3f}",
        )
    Console().print(table)


def _print_votes(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "split",
        "clear\nmajority",
        "accuracy",
        "mean\nrecall",
        "with\nshares",
        "cross-\nentropy",
        "JS\ndistance",
        title="Against people's votes",
    )
    for name, scores in report.items():
        table.add_row(
            name,
            f"{scores['n']:,}",
            _figure(scores["accuracy"], ".2%"),
            _figure(scores["mean_recall"], ".2%"),
            f"{scores['n_shares']:,}",
            _figure(scores["cross_entropy"], ".3f"),
            _figure(scores["js_distance"], ".3f"),
        )
    Console().print(table)


def _figure(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _fail(message: str) -> NoReturn:
    typer.echo(f"ferserve evaluate: {message}", err=True)
    raise typer.Exit(1)
