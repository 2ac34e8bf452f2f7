"""The labelled faces of a benchmark: the operator's FER2013, or an uploaded zip."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferserve.benchmark.archive import LabelledArchive, LabelledFile
from ferserve.benchmark.schemas import BenchmarkRequest, DatasetInfo, SkippedFile
from ferserve.errors import Refusal
from ferserve.fer2013.dataset import DatasetError
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split, read_fer2013
from ferserve.fer2013.votes import Votes, majority, read_votes

MAX_SKIPPED_NAMES = 100
"""Skipped files that a result names; all are counted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """What a benchmark scores.

    Attributes:
        faces: uint8 ``[N, 48, 48]``, N at least 1.
        labels: int64 ``[N]``, indices into ``EMOTIONS``; of votes the majority, -1 where it is not
            clear.
        votes: int64 ``[N, 10]``, in the order of ``CHOICES``; None where labels are scored.
    """

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]
    info: DatasetInfo
    votes: NDArray[np.int64] | None = None


class OperatorDataset:
    """FER2013 and FER+ from the operator's paths; read when first needed, and kept in memory."""

    def __init__(self, path: Path, votes: Path | None) -> None:
        self._path = path
        self._votes_path = votes
        self._lock = threading.Lock()

    def select(self, request: BenchmarkRequest) -> LabelledFaces:
        """Returns the faces of a split or a sample of them; Refusal where nothing can be scored."""
        try:
            with self._lock:  # a cancelled job may still be reading
                _, splits, digest = self._dataset
                votes = self._votes if request.against == "votes" else None
        except DatasetError as error:
            logger.error("the data set cannot be read: %s", error)  # callers see no path
            detail = "the operator's data set cannot be read; the service's log says why"
            raise Refusal(detail, code="unreadable_dataset") from error
        chosen = splits[request.split]
        if request.limit:
            chosen = chosen.take(spread(len(chosen), request.limit))
        counts = votes.of(chosen) if votes else None
        labels = chosen.labels if counts is None else majority(counts)
        scored = int((labels >= 0).sum())
        if not scored:
            detail = f"none of the {len(chosen)} faces has a majority of one emotion"
            raise Refusal(detail, code="nothing_to_score")
        info = DatasetInfo(
            source="operator",
            sha256=digest,
            images={name: len(splits[name]) for name in ("train", "public", "private")},
            votes_sha256=votes.sha256() if votes else None,
            scored=scored,
            skipped=len(chosen) - scored,
        )
        return LabelledFaces(chosen.faces, labels, info, counts)

    @cached_property
    def _dataset(self) -> tuple[Fer2013, dict[str, Split], str]:
        dataset = read_fer2013(self._path)
        return dataset, dataset.evaluation_splits(), dataset.sha256()

    @cached_property
    def _votes(self) -> Votes | None:
        return read_votes(self._votes_path, self._dataset[0]) if self._votes_path else None


def uploaded_faces(
    archive: LabelledArchive,
    files: Sequence[LabelledFile],
    crops: Sequence[NDArray[np.uint8] | str],
) -> LabelledFaces:
    """Puts together the faces of files of an archive; Refusal where there is none.

    ``crops`` has for each file its face, uint8 ``[48, 48]``, or why it has none.
    """
    faces, labels, skipped = [], [], []
    for file, crop in zip(files, crops, strict=True):
        if isinstance(crop, str):
            skipped.append(SkippedFile(file=file.name, code=crop))
        else:
            faces.append(crop)
            labels.append(file.label)
    if not faces:
        reasons = ", ".join(sorted({file.code for file in skipped}))
        detail = f"none of the {len(skipped)} files has a face: {reasons}"
        raise Refusal(detail, code="nothing_to_score")
    counts = np.bincount([file.label for file in archive.files], minlength=len(EMOTIONS))
    info = DatasetInfo(
        source="upload",
        sha256=archive.sha256,
        images=dict(zip(EMOTIONS, counts.tolist(), strict=True)),
        scored=len(faces),
        skipped=len(skipped),
        skipped_files=skipped[:MAX_SKIPPED_NAMES],
    )
    return LabelledFaces(np.stack(faces), np.array(labels, np.int64), info)


def spread(total: int, limit: int | None) -> NDArray[np.int64]:
    """Returns at most ``limit`` of ``total`` indices, evenly spaced: the same ones every time.

    Zips and folders are ordered by class, so the first ones would be of one class.
    """
    count = min(total, limit or total)
    return np.arange(count, dtype=np.int64) * total // count
