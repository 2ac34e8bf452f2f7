"""What the command line names → the files to look at, by their content."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EEXIST
from itertools import chain, count
from pathlib import Path
from typing import Literal

from ferserve.fer2013.containers import is_litter
from ferserve.images import FORMATS

IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
"""Files of these names are looked at whatever they hold, so that damage is reported."""

HEAD_BYTES = 512
"""Of a file, to tell what it is."""

VIDEO = re.compile(
    rb".{4}ftyp(?!hei|hev|mif1|msf1|avi[fs]|crx|M4[ABP] )"  # MP4, MOV, 3GP; no HEIF, no sound
    rb"|.{4}(moov|mdat|wide|free|skip|pnot)"  # MOV of old
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF.{4}AVI "
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # WMV
    rb"|\0\0\x01[\xb3\xba]"  # MPEG
    rb"|(.{4})?\x47.{187}(.{4})?\x47.{187}(.{4})?\x47"  # MPEG transport stream, of cameras too
    rb"|OggS.{24}(\x80theora|fishead)"
    rb"|FLV\x01|\.RMF|YUV4MPEG2 |DKIF|\x06\x0e\x2b\x34\x02\x05\x01",  # Flash, Real, Y4M, IVF, MXF
    re.DOTALL,
)
"""How files of video begin."""

Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file to look at.

    ``relative`` is its place below the folder that was named, or its name.
    """

    path: Path
    relative: Path
    is_video: bool

    @property
    def drawing(self) -> Path:
        """Place of its picture below another folder; no other source of one command has it."""
        suffixes, other = ({".mp4"}, ".mp4") if self.is_video else (IMAGES, ".png")
        kept = self.path.suffix.lower() in suffixes
        return self.relative.with_name(self.relative.name + ("" if kept else other))


@dataclass(frozen=True, slots=True)
class Search:
    """The files to look at, what is left out of the folders, and what could not be opened."""

    sources: list[Source] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)


def find_sources(paths: Iterable[Path], drawings: Path | None = None) -> Search:
    """Returns the files named and, in alphabetical order, those in the folders named.

    Hidden files, what desktops leave behind and a folder for ``drawings`` are left out silently,
    and what is neither image nor video is counted.
    """
    search = Search()
    taken: set[Path] = set()
    for path in paths:
        is_folder, kind = False, None
        with suppress(OSError):  # reading it will say what is wrong
            is_folder = path.is_dir()
            kind = _told_by_content(path)
        if is_folder:
            files = _files(path, search, drawings and drawings.resolve())
            found = [(file, file.relative_to(path), kind) for file, kind in files]
        else:
            found = [(path, Path(path.name), kind or _told_by_name(path))]
        for file, place, kind in sorted(found):
            names = (place.with_stem(f"{place.stem}-{number}") for number in count(2))
            named = (Source(file, name, kind == "video") for name in chain([place], names))
            source = next(source for source in named if source.drawing not in taken)
            taken.add(source.drawing)
            search.sources.append(source)
    return search


def target_of(source: Source, folder: Path) -> Path:
    """Returns where the picture of a source goes, and makes the folder.

    Raises:
        OSError: The folder cannot be made, or the picture would take the place of the source.
    """
    target = folder / source.drawing
    if target.resolve() == source.path.resolve():
        raise FileExistsError(EEXIST, "the picture would take the place of the file itself")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _files(folder: Path, search: Search, drawings: Path | None) -> Iterator[tuple[Path, Kind]]:
    for place, folders, names in os.walk(folder, onerror=search.unreadable.append):
        folders[:] = [
            name
            for name in folders
            if not is_litter(name) and Path(place, name).resolve() != drawings
        ]
        if links := sum(Path(place, name).is_symlink() for name in folders):
            search.left_out["links to folders"] += links
        for path in (Path(place, name) for name in names if not is_litter(name)):
            suffix = path.suffix.lower()
            known = suffix in IMAGES | VIDEOS
            try:
                regular, kind = path.is_file(), _told_by_content(path)
            except OSError as error:
                if not known:  # else the attempt to answer it reports it in its place
                    search.unreadable.append(error)
                    continue
                regular, kind = True, None
            if not regular:
                search.left_out["broken links" if path.is_symlink() else "special files"] += 1
            elif kind or known:
                yield path, kind or _told_by_name(path)
            else:
                search.left_out[suffix or "without a suffix"] += 1


def _told_by_content(path: Path) -> Kind | None:
    if not path.is_file():  # what a pipe gives could not be read again
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if any(signature.match(head) for signature, _ in FORMATS.values()):
        return "image"
    return "video" if VIDEO.match(head) else None


def _told_by_name(path: Path) -> Kind:
    return "video" if path.suffix.lower() in VIDEOS else "image"
