"""What the command line names → the files to look at."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from errno import EEXIST
from itertools import chain, count
from pathlib import Path

IMAGES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"},
)
VIDEOS = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"},
)
"""Files that folders are searched for; a file that is named itself may have any name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to look at.

    Attributes:
        path: Where it is.
        relative: Its place below the folder that was named, or its name; no other source of one
            command has the same.
    """

    path: Path
    relative: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its name."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(paths: Iterable[Path]) -> list[Source]:
    """Returns the files named and, in alphabetical order, those in the folders named.

    Hidden files and folders are left out, and so are files that are neither images nor videos.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        files = sorted(_files(path)) if path.is_dir() else [path]
        for file in files:
            relative = file.relative_to(path) if path.is_dir() else Path(path.name)
            relative = _unlike(relative, found)
            found[relative] = Source(file, relative)
    return list(found.values())


def target_of(source: Source, folder: Path, suffix: str) -> Path:
    """Returns where a picture of a source goes, and makes the folder.

    Args:
        source: The file that was looked at.
        folder: Where pictures go.
        suffix: Comes after the source's own name.

    Raises:
        OSError: The folder cannot be made, or the picture would take the place of the source.
    """
    target = folder / source.relative.with_name(source.relative.name + suffix)
    if target.resolve() == source.path.resolve():
        raise FileExistsError(EEXIST, "the picture would take the place of the file itself")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unlike(relative: Path, taken: Container[Path]) -> Path:
    """Returns the path, with a number where it is taken: ``photo-2.jpg``."""
    names = (relative.with_stem(f"{relative.stem}-{number}") for number in count(2))
    return next(name for name in chain([relative], names) if name not in taken)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in IMAGES | VIDEOS and path.is_file():
            yield path
