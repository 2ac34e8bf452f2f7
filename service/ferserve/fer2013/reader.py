"""Reads FER2013 from each form it is handed around in.

Two forms are known: class folders (``train/<emotion>/*.jpg``, ``test/<emotion>/*.jpg``) and the
CSV with its ``Usage`` column. Either may lie in a folder or a zip, at any depth; the CSV may also
lie in a tar, as in the original ``fer2013.tar.gz``. Archives inside archives are not opened.
"""

import gzip
from pathlib import Path

import numpy as np

from ferserve.fer2013.containers import DAMAGED, MAX_READ, Container, Folder, Tar, Zip
from ferserve.fer2013.dataset import USAGES, DatasetError, Fer2013, Split
from ferserve.fer2013.images import LAYOUT, find_roots, read_images
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.table import is_table, read_table

__all__ = ["DatasetError", "Fer2013", "Split", "read_fer2013"]

EXPECTED = f"{LAYOUT}, or a CSV with emotion, pixels, Usage"

SHOWN_FINDS = 10
"""As many data sets are listed where there are several."""


def read_fer2013(path: Path) -> Fer2013:
    """Reads FER2013 from a folder, a zip, a tar or a CSV file.

    Raises:
        DatasetError: Nothing there, a damaged file, another layout, several data sets, a class
            without images.
    """
    if path.is_dir():
        dataset = _read_container(path, Folder(path))
    elif not path.exists():
        raise DatasetError(f"{path}: no such file or folder; expected FER2013 as zip, folder, CSV")
    elif path.suffix.lower() == ".csv":
        with path.open("rb") as file:
            dataset = read_table(str(path), file)
    else:
        dataset = _read_archive(path)
    _require_every_class(path, dataset)
    return dataset


def _read_archive(path: Path) -> Fer2013:
    kind = "zip"
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            if start.startswith(b"\x1f\x8b"):
                kind = "gzipped tar"
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read_container(path, Tar(path, unpacked))
            if start[257:262] == b"ustar":
                kind = "tar"
                return _read_container(path, Tar(path, file))
            return _read_container(path, Zip(path, file))
    except DAMAGED as error:
        raise DatasetError(
            f"{path}: damaged or not a {kind} ({error}); expected {EXPECTED}"
        ) from error


def _read_container(path: Path, container: Container) -> Fer2013:
    others: list[str] = []
    tables: list[str] = []
    for name, head in container.heads():
        (tables if is_table(head) else others).append(name)
    roots = find_roots(container.names())
    found = [f"{root / 'train'}, {root / 'test'}" for root in roots] + tables
    if len(found) > 1:
        listed = "; ".join(ascii(name[:80]) for name in found[:SHOWN_FINDS])
        raise DatasetError(
            f"{path}: holds {len(found)} data sets, expected one: {listed}"
            + ("; …" if len(found) > SHOWN_FINDS else "")
        )
    if roots:
        (names,) = roots.values()
        return read_images(str(path), names, lambda name: _read_file(path, container, name))
    if len(tables or others) == 1:
        # Where the only CSV lacks a column, the message says which.
        (name,) = tables or others
        with container.open(name) as file:
            return read_table(f"{path}: {name}", file)
    raise DatasetError(f"{path}: no FER2013 images found; expected {EXPECTED}")


def _read_file(path: Path, container: Container, name: str) -> bytes:
    with container.open(name) as file:
        data = file.read(MAX_READ + 1)
    if len(data) > MAX_READ:
        raise DatasetError(f"{path}: {name}: has more than {MAX_READ} bytes")
    return data


def _require_every_class(path: Path, dataset: Fer2013) -> None:
    for usage, split in zip(USAGES, (dataset.train, dataset.public, dataset.private), strict=True):
        counts = np.bincount(split.labels, minlength=len(EMOTIONS))
        missing = [name for name, n in zip(EMOTIONS, counts, strict=True) if n == 0]
        if missing:
            names = ", ".join(missing)
            raise DatasetError(f"{path}: no {usage} image of {names}; expected all seven emotions")
