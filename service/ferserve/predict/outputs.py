"""What was seen: as a table, CSV, JSON or JSON Lines, or drawn into the picture."""

import csv
import io
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Column, Table

from ferserve.errors import InternalError, Refusal
from ferserve.fer2013.labels import EMOTIONS
from ferserve.schemas import FaceEmotion, Recognition, TrackedFace

UNCUT = 100_000
"""Width of a table that nobody reads in a terminal."""

BESIDE_NAMES = 70
"""Columns of a terminal for all but the names of files, which keep at least SHORTEST_NAME."""

SHORTEST_NAME = 20

CSV_COLUMNS = (
    "file", "frame", "seconds", "face", "track", "x", "y", "width", "height",
    "face_confidence", "dominant_emotion", "confidence", *EMOTIONS,
    *(f"{emotion}_smoothed" for emotion in EMOTIONS), "warnings", "problem", "detail",
)  # fmt: skip

COLOURS = {
    "angry": "#d62728",
    "disgust": "#8c6d31",
    "fear": "#9467bd",
    "happy": "#2ca02c",
    "sad": "#1f77b4",
    "surprise": "#ff7f0e",
    "neutral": "#7f7f7f",
}
"""Of boxes, by emotion; all bear white text."""

ADDRESS = re.compile(r"data:|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""How an address begins, once a path was made of it: that has one slash for two."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was seen in a file, named as ``shown`` does; or why nothing was.

    A frame of a video has its number, from 1, its time in the video, and tracked faces.
    """

    file: str
    outcome: Recognition | Refusal
    frame: int | None = None
    seconds: float | None = None

    @property
    def faces(self) -> Sequence[FaceEmotion]:
        """Those of the answer."""
        return () if isinstance(self.outcome, Refusal) else self.outcome.faces

    def document(self) -> dict[str, Any]:
        """Returns the item as JSON has it."""
        document: dict[str, Any] = {"file": self.file}
        if self.frame is not None:
            document |= {"frame": self.frame, "seconds": self.seconds}
        if isinstance(self.outcome, Refusal):
            problem = {"code": self.outcome.code, "detail": self.outcome.detail}
            return document | {"problem": problem}
        # As any: a tracked face is more than the answer's type says.
        result = self.outcome.model_dump(exclude_unset=True, serialize_as_any=True)
        return document | {"result": result}


def shown(path: Path) -> str:
    r"""Returns a path to print: bytes that are not UTF-8 stand as ``\xe9``."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refusal_of_file(error: Exception) -> Refusal:
    """Says what is wrong with a file; raises ``error`` itself where it is a fault of ours."""
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        if ADDRESS.match(str(error.filename)):
            why = "addresses are not opened: download it first"
        return Refusal(why, code="unreadable_file")
    if not isinstance(error, Refusal) or isinstance(error, InternalError):
        raise error
    return error


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Opens a file for the answers, in UTF-8; without a path, standard output. Raises OSError."""
    if path:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):  # no name may cost the run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError:  # the interpreter would try to write the rest once more, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


async def write_json(items: AsyncIterator[Item], file: TextIO) -> None:
    """Writes one JSON array, at the end."""
    documents = [item.document() async for item in items]
    print(json.dumps(documents, indent=2), file=file)


async def write_json_lines(items: AsyncIterator[Item], file: TextIO) -> None:
    """Writes a JSON object a line, at once: a video may be long."""
    async for item in items:
        print(json.dumps(item.document()), file=file, flush=True)


async def write_csv(items: AsyncIterator[Item], file: TextIO) -> None:
    """Writes a row for each face; what has none, or a problem, has one row too."""
    table = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    async for item in items:
        place = {"file": item.file, "frame": item.frame, "seconds": item.seconds}
        if isinstance(item.outcome, Refusal):
            place |= {"problem": item.outcome.code, "detail": item.outcome.detail}
        if not item.faces:
            table.writerow(place)
        for number, face in enumerate(item.faces, 1):
            table.writerow(place | {"face": number} | _csv_columns(face))


def _csv_columns(face: FaceEmotion) -> dict[str, Any]:
    columns = face.model_dump()
    smoothed = columns.get("emotions_smoothed", {}).items()
    columns |= columns["box"] | columns["emotions"]
    columns |= {f"{emotion}_smoothed": value for emotion, value in smoothed}
    return columns | {"warnings": " ".join(face.warnings)}


async def write_table(items: AsyncIterator[Item], file: TextIO) -> None:
    """Prints a table at the end: a row for each face of an image, and for each track of a video."""
    width = None if file.isatty() else UNCUT
    # A file's name is not markup.
    console = Console(file=file, width=width, markup=False, emoji=False)
    name = Column("image", no_wrap=True)
    table = Table(name, "face (x, y, width, height)", "expression", "probability", "notes")
    room = max(SHORTEST_NAME, console.width - BESIDE_NAMES)
    video, frames = "", 0
    tracks: dict[int, list[tuple[float, list[float]]]] = defaultdict(list)

    def add(file: str, *row: str) -> None:
        # Nor are its control characters the terminal's.
        file = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", file)
        table.add_row(file if len(file) <= room else f"…{file[1 - room :]}", *row)

    def end_video() -> None:
        if frames and not tracks:
            add(video, "no face", "", "", f"{frames} frames")
        for number, seen in tracks.items():
            means = np.mean([emotions for _, emotions in seen], axis=0)
            add(
                video,
                f"face {number}, {seen[0][0]:.1f} to {seen[-1][0]:.1f} s",
                EMOTIONS[means.argmax()],
                f"{means.max():.1%}",
                f"mean of {len(seen)} of {frames} frames",
            )

    async for item in items:
        if item.file != video:
            end_video()
            video, frames, tracks = item.file, 0, defaultdict(list)
        if item.frame is not None:
            frames += 1
            for face in item.faces:
                if isinstance(face, TrackedFace):
                    emotions = [face.emotions[emotion] for emotion in EMOTIONS]
                    tracks[face.track].append((item.seconds or 0.0, emotions))
        if isinstance(item.outcome, Refusal):
            problem = item.outcome
            add(item.file, "", problem.code, "", problem.detail)
        elif item.frame is None:
            for row in _image_rows(item):
                add(item.file, *row)
    end_video()
    console.print(table)


def _image_rows(item: Item) -> Iterator[tuple[str, ...]]:
    if not item.faces:
        yield ("no face",)
    for face in item.faces:
        box = ", ".join(str(side) for side in face.box.model_dump().values())
        yield box, face.dominant_emotion, f"{face.confidence:.1%}", ", ".join(face.warnings)


WRITERS: dict[str, Callable[[AsyncIterator[Item], TextIO], Coroutine[Any, Any, None]]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "jsonl": write_json_lines,
}
"""By the name of their format; each writes the items as they come, or keeps them to the end."""


def draw_faces(rgb: NDArray[np.uint8], faces: Sequence[FaceEmotion]) -> Image.Image:
    """Returns the picture with a box and a label for each face.

    Args:
        rgb: uint8 ``[height, width, 3]``; stays as it is.
        faces: Those of a video are labelled with their track and their smoothed emotions.
    """
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    font = ImageFont.load_default(size=max(12, 6 * line))
    for face in reversed(faces):  # the largest on top
        name, emotions = "", face.emotions
        if isinstance(face, TrackedFace):
            name, emotions = f"{face.track}: ", face.emotions_smoothed
        emotion = max(emotions, key=emotions.__getitem__)
        text = f"{name}{emotion} {emotions[emotion]:.0%}"
        colour = COLOURS.get(emotion, COLOURS["neutral"])
        box = face.box
        corners = (box.x, box.y, box.x + box.width - 1, box.y + box.height - 1)
        draw.rectangle(corners, outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * line, bottom - top + 2 * line
        # Above the face, but inside the picture.
        x = max(0, min(box.x, picture.width - width))
        y = max(0, box.y - height)
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        draw.text((x + line - left, y + line - top), text, fill="white", font=font)
    return picture
