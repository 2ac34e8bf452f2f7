"""The commands ``ferserve serve``, ``predict`` and ``models``; registers those of benchmarks too.

Heavy imports are inside the functions, so that ``ferserve --help`` is quick.
"""

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from service.benchmark.commands import benchmark_command, robustness_command

if TYPE_CHECKING:
    from service.schemas import EmotionOptions
    from service.settings import Settings

ModelsDir = Annotated[
    Path | None, typer.Option(help="Folder of the models.", show_default="FERSERVE_MODELS_DIR")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Provider(StrEnum):
    """Where inference runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Detect(StrEnum):
    """Whether to look for faces."""

    AUTO = "auto"
    TRUE = "true"
    FALSE = "false"


def register(app: typer.Typer) -> None:
    """Adds this package's commands to ``app``."""
    app.command("serve")(serve_command)
    app.command("predict")(predict_command)
    app.command("models")(models_command)
    app.command("benchmark")(benchmark_command)
    app.command("robustness")(robustness_command)


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    models_dir: ModelsDir = None,
    models: Annotated[str | None, typer.Option(help="Names to serve, comma-separated.")] = None,
    default_model: Annotated[
        str | None, typer.Option(help="Answers requests that name no model.")
    ] = None,
    provider: Annotated[Provider | None, typer.Option(help="Where inference runs.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Serve the models over HTTP.

    Every setting is also an environment variable FERSERVE_…; an option given here comes first.
    """
    settings = _settings(
        host=host,
        port=port,
        models_dir=models_dir,
        models=models,
        default_model=default_model,
        provider=provider,
        log_format=log_format,
    )
    from service import server

    server.run(settings)


def predict_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    detect: Annotated[
        Detect, typer.Option(help="Look for faces; auto does not in images of up to 64 pixels.")
    ] = Detect.AUTO,
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Rate the apparent expression of every face in image files, without a server.

    A file that cannot be answered is reported in its place and turns the exit status to 1.
    """
    settings = _settings(models_dir=models_dir, models=model, default_model=model)
    from service.bundle import ModelError
    from service.schemas import EmotionOptions

    try:
        items = asyncio.run(_predict_all(images, settings, EmotionOptions(detect=detect.value)))
    except ModelError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(items, indent=2))
    else:
        _print_predictions(items)
    if any("problem" in item for item in items):
        raise typer.Exit(1)


def models_command(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the models that can be served, with their measured accuracy."""
    settings = _settings(models_dir=models_dir)
    from service.bundle import ModelError, available_models, read_card

    names = settings.models or available_models(settings.models_dir)
    try:
        cards = [read_card(settings.models_dir, name) for name in names]
    except ModelError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps([card.model_dump() for card in cards], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    splits = list(dict.fromkeys(split for card in cards for split in card.metrics))
    table = Table("model", "version", "parameters", *(f"accuracy: {split}" for split in splits))
    for card in cards:
        accuracies = [
            f"{card.metrics[split].accuracy:.1%}" if split in card.metrics else ""
            for split in splits
        ]
        table.add_row(card.name, card.version, f"{card.parameters:,}", *accuracies)
    Console().print(table)


def _settings(**overrides: Any) -> "Settings":
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
            for fault in error.errors()
        )
        _fail(faults, status=2)


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"ferserve: {message}", err=True)
    raise typer.Exit(status)


async def _predict_all(
    paths: list[Path], settings: "Settings", options: "EmotionOptions"
) -> list[dict[str, Any]]:
    """Answers every file, in order: ``{file, result}`` or ``{file, problem}``."""
    from rich.console import Console
    from rich.progress import Progress

    from service.recognizer import Recognizer
    from service.settings import usable_cpus

    recognizer = Recognizer(settings)
    await recognizer.start()
    at_once = asyncio.Semaphore(2 * usable_cpus())  # bounds the decoded images in memory
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("images", total=len(paths))

            async def answer(path: Path) -> dict[str, Any]:
                async with at_once:
                    item = await _predict_one(path, recognizer, options)
                progress.advance(bar)
                return item

            return await asyncio.gather(*(answer(path) for path in paths))
    finally:
        await recognizer.close()


async def _predict_one(path: Path, recognizer: Any, options: "EmotionOptions") -> dict[str, Any]:
    from service.errors import InternalError, as_problem

    try:
        data = await asyncio.to_thread(path.read_bytes)
        recognition = await recognizer.recognize(data, options)
    except OSError as error:
        problem = {"code": "unreadable_file", "detail": error.strerror or str(error)}
        return {"file": str(path), "problem": problem}
    except Exception as error:
        known = as_problem(error)
        if isinstance(known, InternalError):
            raise
        return {"file": str(path), "problem": {"code": known.code, "detail": known.detail}}
    return {"file": str(path), "result": recognition.model_dump(exclude_unset=True)}


def _print_predictions(items: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", "face (x, y, width, height)", "expression", "probability", "notes")
    for item in items:
        if "problem" in item:
            problem = item["problem"]
            table.add_row(item["file"], "", problem["code"], "", problem["detail"])
        elif not item["result"]["faces"]:
            table.add_row(item["file"], "no face")
        for face in item.get("result", {}).get("faces", []):
            table.add_row(
                item["file"],
                ", ".join(str(side) for side in face["box"].values()),
                face["dominant_emotion"],
                f"{face['confidence']:.1%}",
                ", ".join(face["warnings"]),
            )
    Console(markup=False, emoji=False).print(table)  # a file's name is no markup
