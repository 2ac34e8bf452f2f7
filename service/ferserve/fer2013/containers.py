"""Folders, zips and tars as one thing: names, and files that can be opened.

Nothing is ever written to disk, and no link in an archive is followed.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from ferserve.fer2013.dataset import DatasetError
from ferserve.fer2013.names import is_litter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_UNPACKED = 1 << 30
"""Most bytes that are unpacked from one archive; the CSV has 301 million."""

MAX_READ = 1 << 20
"""Most bytes that are read at once; an image has 2,000."""

MAX_ENTRIES = 100_000
"""Most entries of a tar; the data set has 35,887 images."""

HEAD_BYTES = 4096
"""As much of a CSV is looked at to see whether it is a data set."""

DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError,
           RuntimeError)  # fmt: skip
"""What archives raise that are broken, encrypted or packed in an uncommon way."""


class Container(Protocol):
    """What holds a data set's files."""

    def names(self) -> list[str]:
        """All files but litter, sorted."""
        ...

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """The CSV files, each with how it begins."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading."""
        ...


class Folder:
    """A folder, with all that lies below it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        files = (file for file in path.rglob("*") if file.is_file())
        self._names = _without_litter([file.relative_to(path).as_posix() for file in files])

    def names(self) -> list[str]:
        """All files but litter, sorted."""
        return self._names

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """The CSV files, each with how it begins."""
        return _heads(self)

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading."""
        return (self._path / name).open("rb")


class Zip:
    """A zip; what is unpacked from it is counted."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file)
        self._budget = Budget(path)
        files = (entry.filename for entry in self._zip.infolist() if not entry.is_dir())
        self._names = _without_litter(list(files))

    def names(self) -> list[str]:
        """All files but litter, sorted."""
        return self._names

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """The CSV files, each with how it begins."""
        return _heads(self)

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading."""
        return io.BufferedReader(Counted(self._zip.open(name), self._budget))


class Tar:
    """A tar, gzipped or not; only its CSV files are looked at."""

    def __init__(self, path: Path, file: io.BufferedIOBase) -> None:
        self._path = path
        self._tar = tarfile.open(fileobj=Bounded(path, file), mode="r:")  # noqa: SIM115
        self._tables: dict[str, tarfile.TarInfo] = {}

    def names(self) -> list[str]:
        """The CSV files that ``heads`` has passed."""
        return sorted(self._tables)

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """The CSV files, each with how it begins."""
        # Each is looked at in passing: to go back means to unpack from the start.
        for number, entry in enumerate(self._tar):
            if number >= MAX_ENTRIES:
                raise DatasetError(f"{self._path}: has more than {MAX_ENTRIES} entries")
            plain = entry.isreg() and not entry.issparse()
            if plain and _is_csv(entry.name) and not is_litter(entry.name):
                self._tables[entry.name] = entry
                with self.open(entry.name) as file:
                    head = file.read(HEAD_BYTES)
                yield entry.name, head

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading."""
        file = self._tar.extractfile(self._tables[name])
        if file is None:
            raise DatasetError(f"{self._path}: {name}: is no plain file")
        return file


class Budget:
    """How many bytes may still be unpacked from an archive."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = MAX_UNPACKED

    def spend(self, count: int) -> None:
        """Takes bytes off; raises DatasetError when none are left."""
        self._left -= count
        if self._left < 0:
            raise _too_large(self._path)


class Counted(io.RawIOBase):
    """An unpacking file whose bytes are taken off a budget."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Reads up to the buffer's size."""
        target = memoryview(buffer)
        data = self._file.read(min(len(target), MAX_READ))
        self._budget.spend(len(data))
        target[: len(data)] = data
        return len(data)


class Bounded(io.RawIOBase):
    """An unpacking tar that cannot be read past the limit."""

    def __init__(self, path: Path, file: io.BufferedIOBase) -> None:
        self._path = path
        self._file = file

    def tell(self) -> int:
        """The place in the unpacked tar."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a place within the limit."""
        if offset > MAX_UNPACKED:
            raise _too_large(self._path)
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """Reads within the limit."""
        # A tar's hidden headers are read at once, whatever size they claim.
        if not 0 <= size <= MAX_READ:
            raise DatasetError(f"{self._path}: a header has more than {MAX_READ} bytes")
        if self.tell() + size > MAX_UNPACKED:
            raise _too_large(self._path)
        return self._file.read(size)


def _too_large(path: Path) -> DatasetError:
    """The refusal of a bomb."""
    return DatasetError(f"{path}: unpacks to more than {MAX_UNPACKED} bytes")


def _without_litter(names: list[str]) -> list[str]:
    return sorted(name for name in names if not is_litter(name))


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def _heads(container: Folder | Zip) -> Iterator[tuple[str, bytes]]:
    for name in filter(_is_csv, container.names()):
        with container.open(name) as file:
            yield name, file.read(HEAD_BYTES)
