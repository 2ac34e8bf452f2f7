"""An uploaded zip of class folders: checked whole before anything in it is unpacked.

Nothing is ever written to disk; an image is unpacked only while it is looked at.
"""

import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from ferserve import errors
from ferserve.fer2013.containers import is_litter
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import emotion_label
from ferserve.settings import Settings

MAX_ENTRIES = 50_000
"""Most files and folders in a zip."""

MAX_RATIO = 200
"""Unpacked bytes over the zip's: images hardly shrink, blank BMPs about 100-fold; bombs start at
1,000."""

MAX_UNPACKED = 8
"""Most unpacked bytes over ``benchmark_max_upload_bytes``."""

ENTRY_SIGNATURE = b"PK\x01\x02"
"""Begins every entry of a zip's directory (APPNOTE 4.3.12)."""

MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
"""Most bytes of a zip's directory; that of 50,000 files with long names has as many."""

MAX_FOLDERS = 16
"""Most folders inside each other: each becomes an object."""

FORBIDDEN = set("\\:\0\n\r")
"""What no name needs: other systems' separators, drive letters, hidden tails, line breaks."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

LAYOUT = "one folder for each of " + ", ".join(EMOTIONS) + ", with the images inside"

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
"""What zipfile raises on files that are not a zip, or a broken one."""


class LabelledFile(NamedTuple):
    """A file of the archive: ``<emotion>/<file name>`` and the index into ``EMOTIONS``."""

    name: str
    label: int
    entry: zipfile.ZipInfo


class _Archive(io.BytesIO):
    """A zip's bytes; zipfile reads the directory, of any size, at once."""

    is_open = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Refuses to read too large a directory."""
        if not self.is_open and (size or 0) > MAX_DIRECTORY_BYTES:
            raise errors.TooManyImages(
                f"the zip's directory may have at most {MAX_DIRECTORY_BYTES} bytes"
            )
        return super().read(size)


class LabelledArchive:
    """The images of a zip, in order of class and name; to be read by one thread at a time.

    Raises:
        Refusal: One of its subclasses, if the zip is damaged, over a limit or laid out otherwise.
    """

    def __init__(self, data: bytes, settings: Settings) -> None:
        if not data.startswith(b"PK"):
            raise errors.UnsupportedMediaType("the file is not a zip")
        # zipfile makes an object of every entry, so they are counted first.
        if data.count(ENTRY_SIGNATURE) > MAX_ENTRIES:
            raise errors.TooManyImages(f"the zip may have at most {MAX_ENTRIES} entries")
        file = _Archive(data)
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise errors.InvalidArchive("the zip is damaged") from error
        file.is_open = True
        entries = [entry for entry in self._zip.infolist() if not is_litter(entry.filename)]
        _check_sizes(entries, len(data), settings)
        self.files = _sort_into_classes(entries)
        self.sha256 = hashlib.sha256(data).hexdigest()

    def read(self, file: LabelledFile) -> bytes:
        """Unpacks one file; Refusal where it is damaged."""
        try:
            # Not the method `read`, which unpacks all that there is. The directory's size was
            # checked.
            with self._zip.open(file.entry) as entry:
                return entry.read(file.entry.file_size)
        except DAMAGED as error:
            detail = f"{file.name} is damaged in the zip"
            raise errors.Refusal(detail, code="damaged_file") from error


def _check_sizes(entries: Sequence[zipfile.ZipInfo], packed: int, settings: Settings) -> None:
    total = sum(entry.file_size for entry in entries)
    most = min(MAX_UNPACKED * settings.benchmark_max_upload_bytes, MAX_RATIO * packed)
    if total > most:
        limit = f"at most {most}, and {MAX_RATIO} times its size, are accepted"
        raise errors.PayloadTooLarge(f"the zip unpacks to {total} bytes; {limit}")
    for entry in entries:
        if entry.file_size > settings.max_upload_bytes:
            limit = f"a file may have at most {settings.max_upload_bytes}"
            raise errors.PayloadTooLarge(f"{_shown(entry)} has {entry.file_size} bytes; {limit}")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if name.count("/") > MAX_FOLDERS:
        raise errors.InvalidArchive(f"{_shown(entry)}: is in over {MAX_FOLDERS} folders")
    path = PurePosixPath(name)
    is_plain = not (path.is_absolute() or ".." in path.parts or set(name) & FORBIDDEN)
    rules = {
        "a name must be a plain relative path": is_plain,
        "links are not accepted": not stat.S_ISLNK(entry.external_attr >> 16),
        "is encrypted": not entry.flag_bits & 0x1,
        "pack it with deflate, or store it": entry.compress_type in METHODS,
    }
    for fault, is_met in rules.items():
        if not is_met:
            raise errors.InvalidArchive(f"{_shown(entry)}: {fault}")


def _sort_into_classes(entries: Sequence[zipfile.ZipInfo]) -> list[LabelledFile]:
    files: dict[PurePosixPath, LabelledFile] = {}
    for entry in entries:
        _check_entry(entry)
        if entry.is_dir():
            continue
        path = PurePosixPath(entry.filename)
        label = emotion_label(path.parent.name)
        if label is None:
            fault = f"is not in a folder named for an emotion; expected {LAYOUT}"
            raise errors.InvalidArchive(f"{_shown(entry)}: {fault}")
        emotion = EMOTIONS[label]
        place = path.parent.parent / emotion / path.name
        if place in files:
            raise errors.InvalidArchive(f"{_shown(entry)}: appears twice")
        files[place] = LabelledFile(f"{emotion}/{path.name}", label, entry)
    roots = {place.parent.parent for place in files}
    if len(roots) > 1:
        raise errors.InvalidArchive(
            f"the emotions' folders must lie beside each other; they are in {len(roots)} places"
        )
    present = {file.label for file in files.values()}
    missing = [emotion for label, emotion in enumerate(EMOTIONS) if label not in present]
    if missing:
        raise errors.InvalidArchive(f"no image of {', '.join(missing)}; expected {LAYOUT}")
    return sorted(files.values(), key=lambda file: (file.label, file.name))


def _shown(entry: zipfile.ZipInfo) -> str:
    """The entry's name for a message: short, and with nothing that could break a line."""
    return ascii(entry.orig_filename[:80])
