"""TIFF files (6.0), and EXIF data, which have their form."""

import re
import struct

from ferserve.errors import UndecodableImage, UnsupportedMediaType
from ferserve.image_files import MAX_PARTS, ImageFile, sensible_profile

MAX_VALUES = 100_000
"""Most values of a TIFF tag: strips."""

MAX_STRIP_BYTES = 256 * 1024 * 1024
"""Most bytes of all strips, which may be the same: each of them may be copied."""

(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER) = (256, 257, 258, 259, 262, 266)
(STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR) = (273, 274, 277, 278, 279, 284)
PREDICTOR, COLOUR_MAP, EXTRA, SAMPLE_FORMAT, PROFILE = 317, 320, 338, 339, 34675
TILES = {322, 323, 324, 325}

TIFF_KEPT = {
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, SAMPLES, ROWS, STRIP_BYTES,
    PLANAR, PREDICTOR, COLOUR_MAP, EXTRA, SAMPLE_FORMAT,
}  # fmt: skip

TIFF_LONG = {STRIPS, STRIP_BYTES, COLOUR_MAP}
"""Tags of more than a few values."""

UNSIGNED = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of numbers; the decoder would read more of them than this module checks."""

TIFF_COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG",
                     8: "Deflate", 32773: "PackBits", 32946: "Deflate"}  # fmt: skip

LOSSLESS = (1, 5, 8, 32773, 32946)
"""Those that are decoded. Of CCITT libtiff answers damaged rows, and writes a line about each."""

TIFF_COLOURS = {0: "white-is-zero grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK",
                6: "YCbCr", 8: "Lab"}  # fmt: skip

TIFF_SAMPLES = {2: 3, 5: 4}
"""Samples a pixel of the colours that have more than one."""

TIFF_BITS = {0: (1, 2, 4, 8, 16), 1: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8),
             5: (8, 16)}  # fmt: skip
"""Bits of unsigned samples, by colours."""

SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "float"}


class _Directory:
    """The first directory of a TIFF file: the first entry of each tag."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.order = "<" if data[:1] == b"I" else ">"
        self._big = 43 in data[2:4]
        self._pointer, self._pointer_at = ("Q", 8) if self._big else ("I", 4)
        self._counter, self._entry = ("Q", "HHQ8s") if self._big else ("H", "HHI4s")
        (at,) = struct.unpack_from(self.order + self._pointer, data, self._pointer_at)
        (count,) = struct.unpack_from(self.order + self._counter, data, at)
        at += struct.calcsize("=" + self._counter)
        size = struct.calcsize("=" + self._entry)
        end = at + size * min(count, MAX_PARTS)
        if end > len(data):
            raise UndecodableImage("the TIFF file is damaged or truncated")
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        for tag, kind, values, inline in struct.iter_unpack(self.order + self._entry, data[at:end]):
            self.entries.setdefault(tag, (kind, values, inline))

    def raw(self, tag: int) -> tuple[str, bytes]:
        """Returns the type and the bytes of a tag's values."""
        kind, count, inline = self.entries[tag]
        form = (UNSIGNED | {7: "B"}).get(kind, "")  # a profile's bytes have type 7
        length = count * struct.calcsize("=" + form)
        if length <= len(inline):
            return form, inline[:length]
        (at,) = struct.unpack(self.order + self._pointer, inline)
        if at + length > len(self._data):
            raise UndecodableImage("the TIFF file is damaged or truncated")
        return form, self._data[at : at + length]

    def numbers(self, tag: int, *default: int) -> tuple[int, ...]:
        form, values = self.raw(tag) if tag in self.entries else ("", b"")
        values = values[: MAX_VALUES * struct.calcsize("=" + form)]
        if not values:
            return default
        return tuple(n for (n,) in struct.iter_unpack(self.order + form, values))

    def number(self, tag: int, default: int = 0) -> int:
        return self.numbers(tag, default)[0]

    def alone(self, tags: set[int]) -> bytes:
        """Returns the file with a directory of these tags only, at its end."""
        entries = [
            struct.pack(self.order + self._entry, tag, *self.entries[tag])
            for tag in sorted(tags & self.entries.keys())
        ]
        file = bytearray(self._data) + bytes(len(self._data) % 2)
        struct.pack_into(self.order + self._pointer, file, self._pointer_at, len(file))
        file += struct.pack(self.order + self._counter, len(entries))
        return b"".join([file, *entries, bytes(8)])


def _orientation(directory: _Directory) -> int:
    value = directory.number(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def strip_tiff(data: bytes) -> ImageFile:
    """Keeps the tags of the first image that say where its pixels are and what they mean."""
    if data.startswith(b"MM\0+"):  # Pillow takes it for another TIFF, and finds nothing in it
        raise UnsupportedMediaType("a BigTIFF of big-endian byte order is not supported")
    directory = _Directory(data)
    for tag in TIFF_KEPT & directory.entries.keys():
        if directory.entries[tag][0] not in UNSIGNED:
            raise UnsupportedMediaType(f"a TIFF whose tag {tag} has no whole numbers")
    _check_layout(directory)
    for tag in TIFF_KEPT & directory.entries.keys():
        most = MAX_VALUES if tag in TIFF_LONG else 16
        if directory.entries[tag][1] > most:
            raise UnsupportedMediaType(
                f"a TIFF with over {most} values of tag {tag} is not supported"
            )
        directory.raw(tag)
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    strip = width * min(height, directory.number(ROWS, height))
    bits = directory.number(BITS, 1) * directory.number(SAMPLES, 1)
    if sum(directory.numbers(STRIP_BYTES)) > MAX_STRIP_BYTES:
        raise UndecodableImage("the TIFF file is damaged: its strips overlap")
    profile = directory.raw(PROFILE)[1] if PROFILE in directory.entries else b""
    white_is_zero = directory.number(PHOTOMETRIC) == 0 and directory.number(BITS, 1) == 16
    if white_is_zero:  # taken for black-is-zero by the decoder, and inverted afterwards
        directory.entries[PHOTOMETRIC] = (3, 1, struct.pack(directory.order + "H", 1))
    return ImageFile(
        directory.alone(TIFF_KEPT),
        _orientation(directory),
        sensible_profile(profile),
        strip * bits // 8,  # is decoded whole
        # A strip takes as long as so many pixels, beside its own.
        320 * len(directory.numbers(STRIPS)),
        white_is_zero=white_is_zero,
    )


def _check_layout(directory: _Directory) -> None:
    """Refuses what Pillow cannot decode, and what it decodes to wrong pixels."""
    colour = directory.number(PHOTOMETRIC)
    samples = directory.number(SAMPLES, 1)
    bits = directory.numbers(BITS, 1)[:8]
    kinds = directory.numbers(SAMPLE_FORMAT, 1)[:8]
    compression = directory.number(COMPRESSION, 1)
    tiled = not TILES.isdisjoint(directory.entries)
    planar = directory.number(PLANAR, 1) == 2 and samples > 1
    extra = samples - TIFF_SAMPLES.get(colour, 1)
    if set(kinds) == {3}:
        big_endian_floats = compression != 1 and directory.order == ">"
        sound = samples == 1 and bits == (32,) and colour == 1 and not big_endian_floats
    else:
        sound = set(kinds) == {1} and len(set(bits)) == 1 and bits[0] in TIFF_BITS.get(colour, ())
    sound &= extra == 0 or (extra == 1 and (colour == 2 or (colour, bits[0]) == (1, 8)))
    sound &= not tiled and not planar
    sound &= compression in LOSSLESS and directory.number(PREDICTOR, 1) in (1, 2)
    sound &= directory.number(FILL_ORDER, 1) == 1 or bits[0] == 1
    if not sound:
        raise UnsupportedMediaType(
            f"a TIFF of {samples} x {bits[0]}-bit"
            f" {SAMPLE_FORMATS.get(kinds[0], f'sample format {kinds[0]}')} samples,"
            f" {TIFF_COLOURS.get(colour, f'photometric interpretation {colour}')},"
            f"{' in planes,' if planar else ''}{' in tiles,' if tiled else ''}"
            f" compression {TIFF_COMPRESSIONS.get(compression, compression)}, is not supported"
        )


def read_orientation(exif: bytes) -> int:
    """Reads the orientation of EXIF data, 1..8; 1 where there is none or the data are damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    if not re.match(rb"II\*\0|MM\0\*", exif):
        return 1
    try:
        return _orientation(_Directory(exif))
    except (struct.error, UndecodableImage):
        return 1
