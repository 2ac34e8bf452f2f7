"""Reads FER2013 from each form it is handed around in.

Three forms are known: the Kaggle zip (``train/<emotion>/*.jpg``, ``test/<emotion>/*.jpg``), the
same unpacked into a folder, and the original ``fer2013.csv`` with its ``Usage`` column.
"""

import csv
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE

USAGES = ("Training", "PublicTest", "PrivateTest")
"""The data set's own split names: file name prefixes, and values of the CSV column ``Usage``."""

LAYOUT = "train/<emotion>/Training_*.jpg and test/<emotion>/{PublicTest,PrivateTest}_*.jpg"


class DatasetError(ValueError):
    """The path holds no readable FER2013; the message names the file and what was expected."""


@dataclass(frozen=True)
class Split:
    """Labelled faces.

    Attributes:
        faces: uint8 ``[N, 48, 48]``, grey values 0..255.
        labels: int64 ``[N]``, indices into ``EMOTIONS``.
        ids: File names, or ``row-<number>`` for the CSV form; one a face.
    """

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, selection: NDArray[np.bool_] | NDArray[np.int64]) -> "Split":
        """Returns the faces that a boolean mask or an index array ``[M]`` selects."""
        rows = np.flatnonzero(selection) if selection.dtype == np.bool_ else selection
        return Split(self.faces[rows], self.labels[rows], tuple(self.ids[i] for i in rows))

    def __add__(self, other: "Split") -> "Split":
        return Split(
            np.concatenate([self.faces, other.faces]),
            np.concatenate([self.labels, other.labels]),
            self.ids + other.ids,
        )


@dataclass(frozen=True)
class Fer2013:
    """The whole data set; ``test`` is PublicTest followed by PrivateTest."""

    train: Split
    public: Split
    private: Split

    @property
    def test(self) -> Split:
        """All test images, the reference project's measure."""
        return self.public + self.private

    def sha256(self) -> str:
        """Hash of every labelled image, whatever order or container they came in."""
        digests = [
            hashlib.sha256(usage.encode() + bytes([label]) + face.tobytes()).digest()
            for usage, split in zip(USAGES, (self.train, self.public, self.private), strict=True)
            for face, label in zip(split.faces, split.labels.tolist(), strict=True)
        ]
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def read_fer2013(path: Path) -> Fer2013:
    """Reads FER2013 from a zip, an unpacked folder or a CSV file.

    Raises:
        DatasetError: Nothing there, a damaged file, another layout, a class without images.
    """
    if path.is_dir():
        dataset = _read_folder(path)
    elif not path.exists():
        raise DatasetError(f"{path}: no such file or folder; expected FER2013 as zip, folder, CSV")
    elif path.suffix.lower() == ".csv":
        dataset = _read_csv(path)
    else:
        dataset = _read_zip(path)
    _require_every_class(path, dataset)
    return dataset


def _read_zip(path: Path) -> Fer2013:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            return _read_images(path, names, archive.read)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"{path}: damaged or not a zip ({error}); expected {LAYOUT}") from error


def _read_folder(path: Path) -> Fer2013:
    names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return _read_images(path, names, lambda name: (path / name).read_bytes())


def _read_images(path: Path, names: Iterable[str], read: Callable[[str], bytes]) -> Fer2013:
    """Sorts image files into splits by folder and file name; other files are passed over."""
    members: dict[str, list[tuple[str, str]]] = {usage: [] for usage in USAGES}
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if len(parts) < 3 or parts[-3] not in ("train", "test") or not name.endswith(".jpg"):
            continue
        if parts[-2] not in EMOTIONS:
            known = ", ".join(EMOTIONS)
            raise DatasetError(f"{path}: {name}: unknown emotion {parts[-2]!r}; expected {known}")
        usage = parts[-1].split("_")[0]
        if usage not in USAGES or (usage == "Training") != (parts[-3] == "train"):
            raise DatasetError(f"{path}: {name}: expected {LAYOUT}")
        members[usage].append((name, parts[-2]))
    if not any(members.values()):
        raise DatasetError(f"{path}: no FER2013 images found; expected {LAYOUT}")
    splits = []
    for usage in USAGES:
        entries = members[usage]
        faces = np.empty((len(entries), FACE_SIDE, FACE_SIDE), np.uint8)
        for row, (name, _) in enumerate(entries):
            faces[row] = _decode_face(path, name, read)
        labels = np.array([EMOTIONS.index(emotion) for _, emotion in entries], np.int64)
        splits.append(Split(faces, labels, tuple(PurePosixPath(name).name for name, _ in entries)))
    return Fer2013(*splits)


def _decode_face(path: Path, name: str, read: Callable[[str], bytes]) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(read(name))) as image:
            face = np.asarray(image.convert("L"))
    except zipfile.BadZipFile:
        raise
    except (OSError, SyntaxError) as error:
        raise DatasetError(f"{path}: {name}: not a readable JPEG image") from error
    if face.shape != (FACE_SIDE, FACE_SIDE):
        height, width = face.shape
        raise DatasetError(f"{path}: {name}: {width}×{height} pixels; expected 48×48")
    return face


def _read_csv(path: Path) -> Fer2013:
    faces: dict[str, list[NDArray[np.uint8]]] = {usage: [] for usage in USAGES}
    labels: dict[str, list[int]] = {usage: [] for usage in USAGES}
    ids: dict[str, list[str]] = {usage: [] for usage in USAGES}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        missing = {"emotion", "pixels", "Usage"} - set(rows.fieldnames or ())
        if missing:
            names = ", ".join(sorted(missing))
            raise DatasetError(f"{path}: no column {names}; expected emotion, pixels, Usage")
        for number, row in enumerate(rows, start=1):
            usage, face, label = _parse_row(path, number, row)
            faces[usage].append(face)
            labels[usage].append(label)
            ids[usage].append(f"row-{number}")
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


def _parse_row(path: Path, number: int, row: dict[str, str]) -> tuple[str, NDArray[np.uint8], int]:
    usage = row["Usage"]
    if usage not in USAGES:
        known = ", ".join(USAGES)
        raise DatasetError(f"{path}: row {number}: Usage is {usage!r}; expected {known}")
    try:
        label = int(row["emotion"])
        pixels = np.array(row["pixels"].split(), np.int64)
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: row {number}: emotion or pixels is not a number") from error
    if not 0 <= label < len(EMOTIONS):
        raise DatasetError(f"{path}: row {number}: emotion is {label}; expected 0 to 6")
    if pixels.size != FACE_SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
        raise DatasetError(f"{path}: row {number}: expected 2304 pixels of 0 to 255")
    return usage, pixels.astype(np.uint8).reshape(FACE_SIDE, FACE_SIDE), label


def _require_every_class(path: Path, dataset: Fer2013) -> None:
    for usage, split in zip(USAGES, (dataset.train, dataset.public, dataset.private), strict=True):
        counts = np.bincount(split.labels, minlength=len(EMOTIONS))
        missing = [name for name, n in zip(EMOTIONS, counts, strict=True) if n == 0]
        if missing:
            names = ", ".join(missing)
            raise DatasetError(f"{path}: no {usage} image of {names}; expected all seven emotions")
