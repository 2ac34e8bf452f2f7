"""Folders, zips and tars as one thing: what they hold, by name.

Nothing is ever written to disk, and no link in an archive is followed.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ferserve.fer2013.dataset import EXPECTED, DatasetError

Files = Mapping[str, Callable[[], IO[bytes]]]
"""What opens each file, by name; to be called in this order, as a tar is unpacked from its start
to go back."""

MAX_UNPACKED = 1 << 30
"""Most bytes that an archive may unpack to; the CSV has 301 million."""

MAX_READ = 1 << 20
"""Most bytes that are read at once; an image has 2,000."""

MAX_ENTRIES = 100_000
"""Most entries of a tar; the data set has 35,887 images."""

DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError,
           RuntimeError, MemoryError)  # fmt: skip
"""What archives raise that are broken or encrypted, or that claim a header of terabytes."""

LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
"""What desktops leave behind under a name that does not begin with a dot; in lower case."""


def is_litter(name: str) -> bool:
    """Whether a tool put the file there: hidden files and folders, resource forks, thumbnails."""
    return any(
        part.lower() in LITTER or (part.startswith(".") and part != "..")
        for part in PurePosixPath(name).parts
    )


@contextmanager
def open_container(path: Path) -> Iterator[Files]:
    """Opens a folder, zip, tar or gzipped tar.

    Raises:
        DatasetError: It is another file, is damaged, or unpacks to too much; here or in reading.
    """
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        yield _files({file.relative_to(path).as_posix(): partial(_open, file) for file in below})
        return
    kind = "zip"
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            if start.startswith(b"\x1f\x8b"):
                kind = "gzipped tar"
                yield _tar_files(path, _BoundedGzip(fileobj=file))
            elif start[257:262] == b"ustar":
                kind = "tar"
                yield _tar_files(path, file)
            else:
                yield _zip_files(path, zipfile.ZipFile(file))
    except DAMAGED as error:
        raise DatasetError(f"{path}: damaged or not a {kind} ({error}); {EXPECTED}") from error


class _BoundedGzip(gzip.GzipFile):
    """Bounds a tar's hidden headers, which are read at once, whatever size they claim."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_READ:
            raise DatasetError(f"{self.name}: a header has more than {MAX_READ} bytes")
        return super().read(size)


def _files(openers: dict[str, Callable[[], IO[bytes]]]) -> Files:
    return {name: openers[name] for name in sorted(openers) if not is_litter(name)}


def _open(file: Path) -> IO[bytes]:
    return file.open("rb")


def _zip_files(path: Path, archive: zipfile.ZipFile) -> Files:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_size(path, sum(entry.file_size for entry in entries))
    if not {entry.compress_type for entry in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # Of the other methods zipfile unpacks all, whatever size the directory says.
        raise DatasetError(f"{path}: is packed in an uncommon way; zip uses deflate by default")
    return _files({entry.filename: partial(archive.open, entry) for entry in entries})


def _tar_files(path: Path, file: IO[bytes] | gzip.GzipFile) -> Files:
    tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closed with its file
    files: dict[str, Callable[[], IO[bytes]]] = {}
    size = 0
    for number, entry in enumerate(tar):
        size += entry.size
        _check_size(path, size)
        if number >= MAX_ENTRIES:
            raise DatasetError(f"{path}: has more than {MAX_ENTRIES} entries")
        if entry.isreg() and not entry.issparse() and not is_litter(entry.name):
            files[entry.name] = partial(tarfile.ExFileObject, tar, entry)
    return files


def _check_size(path: Path, unpacked: int) -> None:
    if unpacked > MAX_UNPACKED:
        raise DatasetError(f"{path}: unpacks to more than {MAX_UNPACKED} bytes")
