"""Reads FER2013 from each form it is handed around in.

Two forms are known: class folders (``train/<emotion>/*.jpg``, ``test/<emotion>/*.jpg``) and the
CSV with its ``Usage`` column. Either may lie in a folder, a zip or a tar, such as the original
``fer2013.tar.gz``, at any depth. Archives inside archives are not opened.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ferserve.fer2013.containers import MAX_READ, Files, open_container
from ferserve.fer2013.dataset import COLUMNS, EXPECTED, LAYOUT, USAGES, DatasetError, Fer2013, Split
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE

__all__ = ["DatasetError", "Fer2013", "Split", "read_fer2013"]

HEAD_BYTES = 4096
"""As much of a CSV is looked at to see whether it is a data set."""

MAX_LINE = 1 << 16
"""Most characters of a line; a face takes up to 9,300."""

SHOWN = 10
"""As many data sets, or columns, are listed where there are several."""

Row = tuple[str, NDArray[np.uint8], int, str]
"""Usage, face, label and id."""


def read_fer2013(path: Path) -> Fer2013:
    """Reads FER2013 from a folder, a zip, a tar or a CSV file.

    Raises:
        DatasetError: Nothing there, a damaged file, another layout, several data sets, a class
            without images.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder; expected FER2013 as zip, folder, CSV")
    if path.suffix.lower() == ".csv" and path.is_file():
        with path.open("rb") as file:
            splits = _splits(_table_rows(str(path), file))
    else:
        with open_container(path) as files:
            splits = _splits(_rows(path, files))
    for usage, split in zip(USAGES, splits, strict=True):
        missing = [name for label, name in enumerate(EMOTIONS) if label not in split.labels]
        if missing:
            names = ", ".join(missing)
            raise DatasetError(f"{path}: no {usage} image of {names}; expected all seven emotions")
    return Fer2013(*splits)


def emotion_label(folder: str) -> int | None:
    """The label that a folder's name stands for, in any letter case; None for another name."""
    emotion = folder.lower()
    return EMOTIONS.index(emotion) if emotion in EMOTIONS else None


def _splits(rows: Iterable[Row]) -> list[Split]:
    by_usage: dict[str, list[Row]] = {usage: [] for usage in USAGES}
    for row in rows:
        by_usage[row[0]].append(row)
    return [
        Split(
            np.array([row[1] for row in rows], np.uint8).reshape(-1, FACE_SIDE, FACE_SIDE),
            np.array([row[2] for row in rows], np.int64),
            tuple(row[3] for row in rows),
        )
        for rows in by_usage.values()
    ]


def _rows(path: Path, files: Files) -> Iterator[Row]:
    images: dict[str, list[str]] = {}
    tables: list[str] = []
    others: list[str] = []
    for name, open_file in files.items():
        parts = PurePosixPath(name).parts
        if name.lower().endswith(".csv"):
            with open_file() as file:
                (tables if _is_table(file.read(HEAD_BYTES)) else others).append(name)
        elif len(parts) >= 3 and parts[-3] in ("train", "test") and name.endswith(".jpg"):
            images.setdefault("/".join([*parts[:-3], ""]), []).append(name)
    found = [f"{root}train, {root}test" for root in images] + tables
    if len(found) > 1:
        listed = "; ".join(ascii(name[:80]) for name in found[:SHOWN])
        more = "; …" if len(found) > SHOWN else ""
        raise DatasetError(f"{path}: holds {len(found)} data sets, expected one: {listed}{more}")
    if images:
        (names,) = images.values()
        return _image_rows(path, {name: files[name] for name in names})
    # Where the only CSV lacks a column, the message says which.
    if len(tables or others) == 1:
        (name,) = tables or others
        return _table_rows(f"{path}: {name}", files[name]())
    raise DatasetError(f"{path}: no FER2013 images found; {EXPECTED}")


def _image_rows(path: Path, files: Files) -> Iterator[Row]:
    rows: dict[tuple[str, str, str], Row] = {}
    for name, open_file in files.items():
        where = f"{path}: {name}"
        split, folder, file_name = PurePosixPath(name).parts[-3:]
        label = emotion_label(folder)
        if label is None:
            known = ", ".join(EMOTIONS)
            raise DatasetError(f"{where}: unknown emotion {folder!r}; expected {known}")
        usage = file_name.split("_")[0]
        if usage not in USAGES or (usage == "Training") != (split == "train"):
            raise DatasetError(f"{where}: expected {LAYOUT}")
        place = (usage, EMOTIONS[label], file_name)
        if place in rows:
            raise DatasetError(f"{where}: appears twice")
        with open_file() as file:
            rows[place] = (usage, _decode_face(where, file.read(MAX_READ + 1)), label, file_name)
    return (rows[place] for place in sorted(rows))


def _decode_face(where: str, data: bytes) -> NDArray[np.uint8]:
    if len(data) > MAX_READ:
        raise DatasetError(f"{where}: has more than {MAX_READ} bytes")
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            # The size is looked at before the pixels are unpacked.
            if (width, height) == (FACE_SIDE, FACE_SIDE):
                return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: not a readable JPEG image") from error
    raise DatasetError(f"{where}: {width}×{height} pixels; expected 48×48")


def _is_table(head: bytes) -> bool:
    """Whether a file that begins so has the three columns, in any order."""
    try:
        _find_columns("", _cells("", io.BytesIO(head)))
    except (DatasetError, csv.Error):
        return False
    return True


def _table_rows(where: str, file: IO[bytes]) -> Iterator[Row]:
    rows = _cells(where, file)
    number = 0
    try:
        columns = _find_columns(where, rows)
        for number, row in enumerate(filter(None, rows), start=1):
            cells = [row[at] if at < len(row) else None for at in columns]
            yield *_parse_row(f"{where}: row {number}", *cells), f"row-{number}"
    except csv.Error as error:
        raise DatasetError(f"{where}: after row {number}: {error}") from error


def _cells(where: str, file: IO[bytes]) -> Iterator[list[str]]:
    # utf-8-sig drops the byte order mark that spreadsheets put first.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    return csv.reader(_lines(where, text))


def _lines(where: str, text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DatasetError(f"{where}: a line has more than {MAX_LINE} characters")
        yield line


def _find_columns(where: str, rows: Iterator[list[str]]) -> list[int]:
    """Where the columns are; blanks around a name and its letter case do not count."""
    header = next(rows, [])
    names = [name.strip().lower() for name in header]
    if any(names.count(name.lower()) != 1 for name in COLUMNS):
        found = ", ".join(ascii(name[:40]) for name in header[:SHOWN]) or "nothing"
        more = f" and {len(header) - SHOWN} more" if len(header) > SHOWN else ""
        expected = f"expected one column each of {', '.join(COLUMNS)}"
        raise DatasetError(f"{where}: {expected}; found {found}{more}")
    return [names.index(name.lower()) for name in COLUMNS]


def _parse_row(
    where: str, emotion: str | None, pixels: str | None, usage: str | None
) -> tuple[str, NDArray[np.uint8], int]:
    if usage is None or usage.strip() not in USAGES:
        found = usage and usage[:40]
        raise DatasetError(f"{where}: Usage is {found!r}; expected {', '.join(USAGES)}")
    try:
        label = int(emotion or "")
        values = np.array((pixels or "").split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: emotion or pixels is not a number") from error
    if not 0 <= label < len(EMOTIONS):
        raise DatasetError(f"{where}: emotion is {label}; expected 0 to 6")
    if values.size != FACE_SIDE**2 or values.min() < 0 or values.max() > 255:
        raise DatasetError(f"{where}: expected 2304 pixels of 0 to 255")
    return usage.strip(), values.astype(np.uint8).reshape(FACE_SIDE, FACE_SIDE), label
