"""Folders and files, here or in an object store."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs


class PlaceError(ValueError):
    """There is no such place, or it cannot be used for this; the message says why."""


@dataclass(frozen=True)
class Place:
    """A path on a file system that pyarrow knows: a local one, S3, GCS, Azure, HDFS.

    Attributes:
        filesystem: How it is reached.
        path: Without scheme; absolute.
    """

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, address: str) -> "Place":
        """Resolves a local path or a URI such as ``s3://bucket/faces``.

        Raises:
            PlaceError: No such kind of URI is known.
        """
        location = address if "://" in address else str(Path(address).resolve())
        try:
            filesystem, path = fs.FileSystem.from_uri(location)
        except (pa.ArrowException, OSError) as error:
            raise PlaceError(f"{address}: {error}") from error
        return cls(filesystem, path.rstrip("/"))

    def contains(self, other: "Place") -> bool:
        """Whether the other place is this one, or below it."""
        same = bool(self.filesystem.equals(other.filesystem))
        return same and PurePosixPath(other.path).is_relative_to(self.path)

    def files(self) -> list[str]:
        """Lists the files below, or the file itself; relative paths, sorted, no hidden ones.

        Raises:
            PlaceError: There is nothing.
        """
        here = self.filesystem.get_file_info(self.path)
        if here.type == fs.FileType.NotFound:
            raise PlaceError(f"{self.path}: no such file or folder")
        if here.is_file:
            return [""]
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
        names = (info.path[len(self.path) + 1 :] for info in found if info.is_file)
        return sorted(name for name in names if not f"/{name}".count("/."))

    def at(self, name: str) -> str:
        """Returns the path of one of ``files``."""
        return f"{self.path}/{name}" if name else self.path
