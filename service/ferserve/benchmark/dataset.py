"""The labelled faces of a benchmark: the operator's FER2013, or an uploaded zip."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ferserve.benchmark.archive import LabelledArchive, LabelledFile
from ferserve.benchmark.schemas import Against, DatasetInfo, SkippedFile
from ferserve.errors import InvalidArchive, Refusal
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.fer2013.reader import Fer2013, Split, read_fer2013
from ferserve.fer2013.votes import Votes, majority, read_votes

MAX_SKIPPED_NAMES = 100
"""Skipped files that a result names; all are counted."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """What a benchmark scores.

    Attributes:
        faces: uint8 ``[N, 48, 48]``, N at least 1.
        labels: int64 ``[N]``, indices into ``EMOTIONS``; of votes the majority, -1 where it is not
            clear.
        info: Where they are from.
        votes: int64 ``[N, 10]``, in the order of ``CHOICES``; None where labels are scored.
    """

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]
    info: DatasetInfo
    votes: NDArray[np.int64] | None = None


class OperatorDataset:
    """FER2013 and FER+ from paths of the settings; read when first needed, and kept in memory."""

    def __init__(self, path: Path, votes: Path | None = None) -> None:
        self._path = path
        self._votes_path = votes
        self._lock = threading.Lock()

    def select(self, split: str, limit: int | None, against: Against = "labels") -> LabelledFaces:
        """Returns the faces of a split, or ``limit`` of them.

        Raises:
            ferserve.fer2013.reader.DatasetError: The data set or the votes cannot be read.
            Refusal: People do not agree on a single face.
        """
        with self._lock:  # a cancelled job may still be reading
            whole, splits, digest = self._dataset, self._splits, self._sha256
            votes = self._votes if against == "votes" else None
        chosen = splits[split]
        if limit is not None and limit < len(chosen):
            chosen = chosen.take(spread(len(chosen), limit))
        counts = votes.of(chosen) if votes else None
        labels = chosen.labels if counts is None else majority(counts)
        scored = int((labels >= 0).sum())
        if not scored:
            detail = f"none of the {len(chosen)} faces has a majority of one emotion"
            raise Refusal(detail, code="nothing_to_score")
        info = DatasetInfo(
            source="operator",
            sha256=digest,
            images={
                "train": len(whole.train),
                "public": len(whole.public),
                "private": len(whole.private),
            },
            votes_sha256=votes.sha256() if votes else None,
            scored=scored,
            skipped=len(chosen) - scored,
            skipped_files=[],
        )
        return LabelledFaces(chosen.faces, labels, info, counts)

    @cached_property
    def _votes(self) -> Votes:
        if self._votes_path is None:
            raise ValueError("there are no votes")
        return read_votes(self._votes_path, self._dataset)

    @cached_property
    def _dataset(self) -> Fer2013:
        return read_fer2013(self._path)

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return self._dataset.evaluation_splits()

    @cached_property
    def _sha256(self) -> str:
        return self._dataset.sha256()


class UploadReader:
    """Turns an archive's files into faces, a few at a time.

    Args:
        archive: Checked already.
        crop: Returns a file's face, uint8 ``[48, 48]``, or None where there is none; raises
            ``Refusal`` for what is no image within the limits.
        limit: Most files, spread evenly over the archive.
    """

    def __init__(
        self,
        archive: LabelledArchive,
        crop: Callable[[bytes], NDArray[np.uint8] | None],
        limit: int | None = None,
    ) -> None:
        self._archive = archive
        self._crop = crop
        files = archive.files
        if limit is not None and limit < len(files):
            files = [files[index] for index in spread(len(files), limit)]
        self.files = files
        self._faces: list[NDArray[np.uint8]] = []
        self._labels: list[int] = []
        self._skipped: list[SkippedFile] = []

    def read(self, files: Iterable[LabelledFile]) -> None:
        """Unpacks and decodes files; blocks while it does."""
        for file in files:
            try:
                face = self._crop(self._archive.read(file))
            except InvalidArchive:
                self._skip(file, "damaged_file")
            except Refusal as refusal:
                self._skip(file, refusal.code)
            else:
                if face is None:
                    self._skip(file, "no_face")
                    continue
                self._faces.append(face)
                self._labels.append(file.label)

    def result(self) -> LabelledFaces:
        """Returns the faces read so far.

        Raises:
            Refusal: There are none.
        """
        info = DatasetInfo(
            source="upload",
            sha256=self._archive.sha256,
            images=self._archive.counts,
            scored=len(self._faces),
            skipped=len(self._skipped),
            skipped_files=self._skipped[:MAX_SKIPPED_NAMES],
        )
        if not self._faces:
            reasons = ", ".join(sorted({file.code for file in self._skipped}))
            why = f"none of the {len(self._skipped)} files has a face: {reasons}"
            raise Refusal(why, code="nothing_to_score")
        return LabelledFaces(
            np.stack(self._faces).reshape(-1, FACE_SIDE, FACE_SIDE),
            np.array(self._labels, np.int64),
            info,
        )

    def _skip(self, file: LabelledFile, code: str) -> None:
        self._skipped.append(SkippedFile(file=file.name, code=code))


def spread(total: int, count: int) -> NDArray[np.int64]:
    """Returns ``count`` of ``total`` indices, evenly spaced, ascending: the same ones every time.

    Files and data sets are ordered by class, so the first ones would be of one class.
    """
    return np.arange(count, dtype=np.int64) * total // count
