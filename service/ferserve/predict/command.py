"""The command ``ferserve predict``. Heavy imports are inside, so that ``--help`` is quick."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ferserve.command_line import Detect, ModelsDir, fail, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve.predict.outputs import Item
    from ferserve.predict.sources import Search


def predict_command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Images, videos, or folders of them.")
    ],
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    detect: Detect = "auto",
    output_format: Annotated[
        Literal["table", "csv", "json", "jsonl"],
        typer.Option("--format", help="csv: a row for each face; jsonl: a line for each frame."),
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="File to write instead of stdout."),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Folder for pictures and videos with the faces drawn in."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1000, help="Video frames to look at per second; by default all."
        ),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Rate the apparent expression of every face in images and videos, without a server.

    A file that cannot be answered is reported in its place and makes the exit status 1. Other files
    in folders are counted at the end. Videos need ferserve's extra "video".
    """
    settings = settings_of(models_dir=models_dir, models=model, default_model=model).unhurried()
    from rich.console import Console
    from rich.progress import Progress

    from ferserve.errors import Refusal
    from ferserve.predict.outputs import WRITERS, opened
    from ferserve.predict.run import Predictor
    from ferserve.predict.sources import find_sources
    from ferserve.recognizer import AsyncRecognizer
    from ferserve.schemas import EmotionOptions
    from ferserve.sessions import ModelError

    search = find_sources(inputs, annotate)
    if not search.sources:
        _report(search)
        fail("there are no images or videos in the folders")
    for source in search.sources:
        with suppress(OSError):  # one of them does not exist
            if output and output.samefile(source.path):
                fail(f"{output}: is one of the inputs", status=2)
    kind = "json" if as_json else output_format
    failed = bool(search.unreadable)

    async def watched(items: "AsyncIterator[Item]") -> "AsyncIterator[Item]":
        """Hands the items on, and moves the bar, which is gone before a table is printed."""
        nonlocal failed
        with progress:
            async for item in items:
                progress.advance(bar)
                failed = failed or isinstance(item.outcome, Refusal)
                yield item

    try:
        recognizer = AsyncRecognizer(settings)  # before a file of earlier answers is emptied
        with opened(output) as file:
            terminal = Console(stderr=True)
            lines_appear = kind in ("csv", "jsonl") and file.isatty()
            progress = Progress(
                console=terminal,
                transient=True,
                redirect_stdout=False,  # or Rich would send it to stderr
                disable=lines_appear or not terminal.is_terminal,
            )
            videos = any(source.is_video for source in search.sources)  # of how many frames?
            bar = progress.add_task("looking", total=None if videos else len(search.sources))
            predictor = Predictor(recognizer, EmotionOptions(detect=detect), annotate, fps)
            asyncio.run(WRITERS[kind](watched(predictor.answer(search.sources)), file))
    except ModelError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader has seen enough; Typer ends the command silently
        raise
    except OSError as error:
        fail(f"{error.filename or output or 'standard output'}: {error.strerror}")
    _report(search)
    if failed:
        raise typer.Exit(1)


def _report(search: "Search") -> None:
    if search.left_out:
        counts = ", ".join(f"{what} ({number})" for what, number in search.left_out.most_common())
        typer.echo(f"ferserve: left out of the folders: {counts}", err=True)
    for error in search.unreadable:
        typer.echo(f"ferserve: {error.filename}: {error.strerror}", err=True)
