"""Reads FER2013 from its CSV form: a row a face, with its ``Usage``."""

import csv
import io
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.dataset import USAGES, DatasetError, Fer2013, Split
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE

COLUMNS = ("emotion", "pixels", "Usage")

MAX_LINE = 1 << 16
"""Most characters of a line; a face takes up to 9,300."""

SHOWN_NAMES = 8
"""As many of a header's names are quoted."""


def is_table(head: bytes) -> bool:
    """Whether a file that begins so has the three columns, in any order."""
    try:
        _find_columns("", _rows("", io.BytesIO(head)))
    except (DatasetError, csv.Error):
        return False
    return True


def read_table(where: str, file: IO[bytes]) -> Fer2013:
    """Reads the CSV form.

    Args:
        where: What messages call the file.
        file: Open at its start; it is closed when it is read.

    Raises:
        DatasetError: A column is missing or there twice, or a row is no labelled face.
    """
    faces: dict[str, list[NDArray[np.uint8]]] = {usage: [] for usage in USAGES}
    labels: dict[str, list[int]] = {usage: [] for usage in USAGES}
    ids: dict[str, list[str]] = {usage: [] for usage in USAGES}
    rows = _rows(where, file)
    number = 0
    try:
        columns = _find_columns(where, rows)
        for number, row in enumerate(filter(None, rows), start=1):
            cells = {name: row[at] if at < len(row) else None for name, at in columns.items()}
            usage, face, label = _parse_row(where, number, cells)
            faces[usage].append(face)
            labels[usage].append(label)
            ids[usage].append(f"row-{number}")
    except csv.Error as error:
        raise DatasetError(f"{where}: after row {number}: {error}") from error
    return Fer2013(
        *(
            Split(
                np.array(faces[usage], np.uint8).reshape(-1, FACE_SIDE, FACE_SIDE),
                np.array(labels[usage], np.int64),
                tuple(ids[usage]),
            )
            for usage in USAGES
        )
    )


def _rows(where: str, file: IO[bytes]) -> Iterator[list[str]]:
    # utf-8-sig drops the byte order mark that spreadsheets put first.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    return csv.reader(_lines(where, text))


def _lines(where: str, text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DatasetError(f"{where}: a line has more than {MAX_LINE} characters")
        yield line


def _find_columns(where: str, rows: Iterator[list[str]]) -> dict[str, int]:
    """Where the columns are; blanks around a name and its letter case do not count."""
    header = next(rows, [])
    names = [name.strip().lower() for name in header]
    found = ", ".join(ascii(name[:40]) for name in header[:SHOWN_NAMES]) or "nothing"
    if len(header) > SHOWN_NAMES:
        found += f" and {len(header) - SHOWN_NAMES} more"
    for problem, wrong in (
        ("no column", [name for name in COLUMNS if name.lower() not in names]),
        ("more than one column", [name for name in COLUMNS if names.count(name.lower()) > 1]),
    ):
        if wrong:
            raise DatasetError(
                f"{where}: {problem} {', '.join(sorted(wrong))}; found {found}; "
                f"expected {', '.join(COLUMNS)}"
            )
    return {name: names.index(name.lower()) for name in COLUMNS}


def _parse_row(
    where: str, number: int, row: dict[str, str | None]
) -> tuple[str, NDArray[np.uint8], int]:
    usage = (row["Usage"] or "").strip()
    if usage not in USAGES:
        known = ", ".join(USAGES)
        found = row["Usage"] if row["Usage"] is None else row["Usage"][:40]
        raise DatasetError(f"{where}: row {number}: Usage is {found!r}; expected {known}")
    try:
        label = int(row["emotion"] or "")
        pixels = np.array((row["pixels"] or "").split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: row {number}: emotion or pixels is not a number") from error
    if not 0 <= label < len(EMOTIONS):
        raise DatasetError(f"{where}: row {number}: emotion is {label}; expected 0 to 6")
    if pixels.size != FACE_SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
        raise DatasetError(f"{where}: row {number}: expected 2304 pixels of 0 to 255")
    return usage, pixels.astype(np.uint8).reshape(FACE_SIDE, FACE_SIDE), label
