"""FER+: how ten people labelled the faces of FER2013 (Barsoum et al. 2016, arXiv 1608.01041).

Two forms are read:

- A CSV with one row an image: ``image``, the file name without its suffix, then one column of
  votes for each of :data:`CHOICES`.
- The published ``fer2013new.csv``, whose rows are in the order of ``fer2013.csv``. It belongs to
  a data set that was read from that CSV file.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferserve.fer2013.dataset import DatasetError
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split

CHOICES = (*EMOTIONS, "contempt", "unknown", "not_a_face")
"""What people could choose."""

PUBLISHED = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",
             "contempt", "unknown", "NF")  # fmt: skip
"""Their columns in ``fer2013new.csv``."""


@dataclass(frozen=True)
class Votes:
    """Votes int64 ``[10]``, in the order of :data:`CHOICES`, by the face's id without a suffix."""

    counts: Mapping[str, NDArray[np.int64]]

    def of(self, split: Split) -> NDArray[np.int64]:
        """Returns the votes for each face, int64 ``[N, 10]``; zeros where there are none."""
        none = np.zeros(len(CHOICES), np.int64)
        rows = [self.counts.get(_image(name), none) for name in split.ids]
        return np.array(rows, np.int64).reshape(-1, len(CHOICES))

    def sha256(self) -> str:
        """Hash of all votes, whatever the order and form of the file."""
        rows = (f"{image},{','.join(map(str, row))}" for image, row in self.counts.items())
        return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def read_votes(path: Path, dataset: Fer2013) -> Votes:
    """Reads the votes about a data set's faces from a CSV in one of the two forms.

    Raises:
        DatasetError: No such file, other columns, a row that holds no votes, or votes about images
            that the data set does not have.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.DictReader(file)
            names = [name for name in rows.fieldnames or () if name.strip()]
            found = {name.strip(): name for name in names}
            if len(found) < len(names):
                raise DatasetError(f"{path}: two columns have one name")
            columns = _columns(path, found)
            images = Counter(_image(name) for name in (*dataset.train.ids, *dataset.test.ids))
            counts: dict[str, NDArray[np.int64]] = {}
            for number, row in enumerate(rows, start=1):
                where = f"{path}: row {number}"
                image = row[found["image"]] if "image" in found else f"row-{number}"
                if image not in images:
                    expected = f"expected names such as {next(iter(images))!r}"
                    raise DatasetError(f"{where}: the data set has no image {image!r}; {expected}")
                if image in counts and images[image] == 1:
                    expected = "expected one row an image"
                    raise DatasetError(f"{where}: image {image!r} has a row already; {expected}")
                counts[image] = _parse_votes(where, [row[column] for column in columns])
    except csv.Error as error:
        raise DatasetError(f"{path}: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DatasetError(f"{path}: {reason.lower()}; expected a CSV of FER+ votes") from error
    if not counts:
        raise DatasetError(f"{path}: no rows; expected one for each image")
    # FER2013 has two faces named Training_8475486: nothing tells whose votes are whose.
    return Votes({image: row for image, row in counts.items() if images[image] == 1})


def shares(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns the share of all people ``[N, 10]`` who chose each emotion: float32 ``[N, 7]``.

    A row sums to the share of those who chose one of the seven, to 0 where there are no votes.
    """
    chosen: NDArray[np.float32] = counts[:, : len(EMOTIONS)].astype(np.float32)
    chosen /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return chosen


def emotion_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns each emotion's share of the votes ``[N, 10]`` for one of the seven: ``[N, 7]``.

    A row sums to 1, or to 0 where nobody chose one of the seven; float64.
    """
    chosen = counts[:, : len(EMOTIONS)].astype(np.float64)
    return np.asarray(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1))


def majority(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the emotion that more people ``[N, 10]`` chose than anything else.

    Returns:
        int64 ``[N]``, indices into ``EMOTIONS``; -1 where two choices are level or where most
        people chose none of the seven emotions.
    """
    first = counts.argmax(axis=1)
    most = counts.max(axis=1, keepdims=True)
    is_clear = ((counts == most).sum(axis=1) == 1) & (first < len(EMOTIONS))
    return np.where(is_clear, first, -1)


def with_majority(split: Split, counts: NDArray[np.int64]) -> Split:
    """Returns the faces whose votes ``[N, 10]`` have a majority, which takes the labels' place."""
    labels = majority(counts)
    rows = np.flatnonzero(labels >= 0)
    return replace(split.take(rows), labels=labels[rows])


def _columns(path: Path, found: Mapping[str, str]) -> list[str]:
    ours = "image" in found and found.keys() >= set(CHOICES)
    if not ours and not found.keys() >= set(PUBLISHED):
        raise DatasetError(
            f"{path}: found the columns {', '.join(found) or 'none'}; expected image, "
            f"{', '.join(CHOICES)}, or those of the published fer2013new.csv"
        )
    return [found[name] for name in (CHOICES if ours else PUBLISHED)]


def _parse_votes(where: str, values: list[str]) -> NDArray[np.int64]:
    if not all(value and len(value) < 10 and value.strip().isdecimal() for value in values):
        found = f"votes are {', '.join(map(str, values))}"
        raise DatasetError(f"{where}: {found}; expected ten whole numbers of at least 0")
    return np.array([int(value) for value in values], np.int64)


def _image(name: str) -> str:
    return name.rsplit(".", 1)[0]
