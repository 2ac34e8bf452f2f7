"""What was seen, as a table, CSV, JSON or JSON Lines."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ferserve.errors import Refusal
from ferserve.fer2013.labels import EMOTIONS
from ferserve.predict.items import Item
from ferserve.schemas import FaceEmotion, TrackedFace

UNCUT = 100_000
"""Width of a table that nobody reads in a terminal."""

SHORTEST_NAME = 20
"""Columns that the name of a file keeps in a narrow terminal."""


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Opens a file for the answers, in UTF-8; without a path, standard output.

    Raises:
        OSError: It cannot be opened, or takes no more.
    """
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


class Writer(Protocol):
    """Takes items as they come."""

    def add(self, item: Item) -> None:
        """Writes an item, or keeps it."""

    def finish(self) -> None:
        """Writes what is left."""


def writer_of(name: str, file: TextIO) -> Writer:
    """Returns a writer into an open text file: ``table``, ``csv``, ``json`` or ``jsonl``."""
    kinds: dict[str, Callable[[TextIO], Writer]] = {
        "table": TableWriter,
        "csv": CsvWriter,
        "json": JsonWriter,
        "jsonl": JsonLinesWriter,
    }
    return kinds[name](file)


class JsonWriter:
    """One JSON array."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._documents: list[dict[str, Any]] = []

    def add(self, item: Item) -> None:
        """Keeps an item."""
        self._documents.append(item.document())

    def finish(self) -> None:
        """Writes all."""
        print(json.dumps(self._documents, indent=2), file=self._file)


class JsonLinesWriter:
    """A JSON object a line, at once: a video may be long."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, item: Item) -> None:
        """Writes an item."""
        print(json.dumps(item.document()), file=self._file, flush=True)

    def finish(self) -> None:
        """Nothing is left."""


class CsvWriter:
    """A row for each face; an image or frame with none, or with a problem, has one row too."""

    COLUMNS = (
        "file", "frame", "seconds", "face", "track", "x", "y", "width", "height",
        "face_confidence", "dominant_emotion", "confidence", *EMOTIONS,
        *(f"{emotion}_smoothed" for emotion in EMOTIONS), "warnings", "problem", "detail",
    )  # fmt: skip

    def __init__(self, file: TextIO) -> None:
        self._csv = csv.DictWriter(file, self.COLUMNS, lineterminator="\n")
        self._csv.writeheader()

    def add(self, item: Item) -> None:
        """Writes an item."""
        place = {"file": item.file, "frame": item.frame, "seconds": item.seconds}
        if isinstance(item.outcome, Refusal):
            problem = {"problem": item.outcome.code, "detail": item.outcome.detail}
            self._csv.writerow(place | problem)
            return
        faces = _faces(item)
        if not faces:
            self._csv.writerow(place)
        for number, face in enumerate(faces, 1):
            self._csv.writerow(place | {"face": number} | self._columns(face))

    def finish(self) -> None:
        """Nothing is left."""

    def _columns(self, face: FaceEmotion) -> dict[str, Any]:
        columns = {
            **face.box.model_dump(),
            "face_confidence": face.face_confidence,
            "dominant_emotion": face.dominant_emotion,
            "confidence": face.confidence,
            **face.emotions,
            "warnings": " ".join(face.warnings),
        }
        if isinstance(face, TrackedFace):
            smoothed = face.emotions_smoothed.items()
            columns |= {f"{emotion}_smoothed": value for emotion, value in smoothed}
            columns["track"] = face.track
        return columns


class TableWriter:
    """A table to read: a row for each face of an image, and for each track of a video."""

    def __init__(self, file: TextIO) -> None:
        width = None if file.isatty() else UNCUT
        # A file's name is no markup.
        self._console = Console(file=file, width=width, markup=False, emoji=False)
        self._table = Table(
            "image", "face (x, y, width, height)", "expression", "probability", "notes"
        )
        self._video = ""
        self._frames = 0
        self._tracks: dict[int, _TrackSum] = {}

    def add(self, item: Item) -> None:
        """Keeps an item."""
        if item.file != self._video:
            self._end_video()
        if item.frame is not None:
            self._video = item.file
            self._frames += 1
            for tracked in item.faces:
                self._tracks.setdefault(tracked.track, _TrackSum()).add(tracked, item.seconds)
        if isinstance(item.outcome, Refusal):
            problem = item.outcome
            self._table.add_row(_Name(item.file), "", problem.code, "", problem.detail)
        elif item.frame is None:
            self._add_image(item)

    def finish(self) -> None:
        """Prints the table."""
        self._end_video()
        self._console.print(self._table)

    def _add_image(self, item: Item) -> None:
        faces = _faces(item)
        if not faces:
            self._table.add_row(_Name(item.file), "no face")
        for face in faces:
            self._table.add_row(
                _Name(item.file),
                ", ".join(str(side) for side in face.box.model_dump().values()),
                face.dominant_emotion,
                f"{face.confidence:.1%}",
                ", ".join(face.warnings),
            )

    def _end_video(self) -> None:
        """Adds the rows of a video that is over."""
        if self._frames and not self._tracks:
            self._table.add_row(_Name(self._video), "no face", "", "", f"{self._frames} frames")
        for track, seen in self._tracks.items():
            emotion, mean = seen.strongest()
            notes = f"mean of {seen.frames} of {self._frames} frames"
            self._table.add_row(
                _Name(self._video), seen.describe(track), emotion, f"{mean:.1%}", notes
            )
        self._video, self._frames, self._tracks = "", 0, {}


class _Name:
    """The name of a file in a table; where there is no room for it, its end."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = cell_len(self._name)
        return Measurement(min(width, SHORTEST_NAME), width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name = self._name
        if cell_len(name) > options.max_width:
            while cell_len(name) >= options.max_width:
                name = name[1:]
            name = f"…{name}"
        yield Text(name)


class _TrackSum:
    """The emotions of one face of a video, added up."""

    def __init__(self) -> None:
        self.frames = 0
        self._sums = dict.fromkeys(EMOTIONS, 0.0)
        self._first = self._last = 0.0

    def add(self, face: TrackedFace, seconds: float | None) -> None:
        self._last = seconds or 0.0
        if not self.frames:
            self._first = self._last
        self.frames += 1
        for emotion, value in face.emotions.items():
            self._sums[emotion] += value

    def strongest(self) -> tuple[str, float]:
        """Returns the emotion with the highest mean, and the mean."""
        emotion = max(self._sums, key=self._sums.__getitem__)
        return emotion, self._sums[emotion] / self.frames

    def describe(self, track: int) -> str:
        """Says which face it is, and when it was seen."""
        return f"face {track}, {self._first:.1f} to {self._last:.1f} s"


def _faces(item: Item) -> list[FaceEmotion]:
    if isinstance(item.outcome, Refusal):
        return []
    return list(item.faces) if item.frame is not None else item.outcome.faces
