"""An image file → the parts that its pixels need, in time linear in its length.

Metadata has cost Pillow and libtiff seconds and gigabytes: quadratic EXIF, compressed text, chains
of tags. So all of it is left out before they see the file. What is kept of it, the orientation and
the colour profile, is read here.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from ferserve.image_errors import UndecodableImage, UnsupportedMediaType

MAX_PARTS = 10_000
"""Most segments or chunks of a file: 64 kB each, they would make 30 times the largest upload."""

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Larger colour profiles are ignored; those of printing presses have about 2 MB."""

MAX_TABLE_BYTES = 64 * 1024
"""Most bytes of a JPEG file's tables before its pixels; four of each kind have under 3 kB."""

MAX_SCANNED_SAMPLES = 1_000_000_000
"""Most samples that all scans of a JPEG file pass over, about two seconds of work. A progressive
file of 50 megapixels has ten scans and passes over 0.4 billion."""

MAX_VALUES = 100_000
"""Most values of a TIFF tag: strips or tiles."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file without its metadata.

    Attributes:
        data: What is left of the file.
        orientation: 1..8, as in EXIF.
        profile: The ICC profile, None where there is none of a sensible size.
        part_pixels: Pixels of a TIFF file's strip or tile, which is decoded whole.
        work_bytes: What decoding takes beside the pixels and ``data``.
        has_end: Whether a JPEG file's end marker was there; ``data`` has one in any case.
        white_is_zero: Whether grey levels are to be inverted after decoding.
    """

    data: bytes
    orientation: int = 1
    profile: bytes | None = None
    part_pixels: int = 0
    work_bytes: int = 0
    has_end: bool = True
    white_is_zero: bool = False


def read_orientation(exif: bytes) -> int:
    """Reads the orientation of EXIF data, looking at its first directory only.

    Returns:
        1..8; 1, upright, where there is none or the data are damaged.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    if not re.match(rb"II\*\0|MM\0\*", exif):
        return 1
    try:
        return _orientation(_Directory(exif))
    except (struct.error, UndecodableImage):
        return 1


def _profile(profile: bytes) -> bytes | None:
    """Drops a profile that would cost too much: oversized, or of elements without a bound."""
    sensible = 0 < len(profile) <= MAX_PROFILE_BYTES and b"mpet" not in profile
    return profile if sensible else None


# --- JPEG (ITU-T T.81, annex B) ---

MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""The next marker, restart markers and stuffed bytes passed over."""

START, END, START_OF_SCAN, EXIF, ICC = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = 0xC2
TABLES = {0xC4, 0xDB, 0xDD}
"""Huffman tables, quantisation tables, restart interval."""

COLOURS = {0xE0: b"JFIF", 0xEE: b"Adobe"}
"""Segments that say what the components mean."""


def strip_jpeg(data: bytes) -> ImageFile:
    """Keeps tables, frame and scans.

    Raises:
        UndecodableImage: The file has no frame, two, or ends before all its scans.
        UnsupportedMediaType: A kind of JPEG that is not decoded, or one made to be slow.
    """
    kept = [b"\xff\xd8"]
    exif, profile = b"", []
    frame: _Frame | None = None
    scan_start = table_bytes = at = 0
    has_end = False
    for _ in range(MAX_PARTS):
        found = MARKER.search(data, at)
        if scan_start:
            kept.append(data[scan_start : found.start() if found else len(data)])
            scan_start = 0
        if found is None:
            break
        marker, at = found[1][0], found.end()
        if marker == START:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body, start, at = data[at + 2 : at + length], found.end() - 2, at + length
        if marker == END or marker < 0xC0 or length < 2 or at > len(data):
            has_end = marker == END
            break
        if marker in FRAMES:
            if frame:
                raise UndecodableImage("the JPEG file is damaged: it has two frames")
            frame = _Frame(marker, body)
            kept.append(data[start:at])
        elif marker == START_OF_SCAN and frame:
            frame.add_scan(body)
            scan_start = start
        elif marker in TABLES or body.startswith(COLOURS.get(marker, b"\0none")):
            table_bytes += length
            kept.append(data[start:at])
        elif marker == EXIF and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == ICC and body.startswith(b"ICC_PROFILE\0"):
            profile.append(body[12:])
        if table_bytes > MAX_TABLE_BYTES and not (frame and frame.scans):
            raise UnsupportedMediaType(
                f"a JPEG with over {MAX_TABLE_BYTES} bytes of tables is not supported"
            )
    else:
        raise UnsupportedMediaType(f"a JPEG of more than {MAX_PARTS} segments is not supported")
    if frame is None or not frame.scans or not (has_end or frame.is_complete):
        raise UndecodableImage("the JPEG file is damaged or truncated")
    if not has_end and kept[-1][-64:] == kept[-1][-1:] * 64:
        raise UndecodableImage("the JPEG file is truncated and filled up")
    return ImageFile(
        b"".join([*kept, b"\xff\xd9"]),
        read_orientation(exif),
        _joined_profile(profile),
        work_bytes=frame.work_bytes,
        has_end=has_end,
    )


def _joined_profile(parts: list[bytes]) -> bytes | None:
    """Puts the parts in order: each begins with its number and how many there are."""
    parts.sort()
    whole = bool(parts) and all(len(part) > 2 for part in parts) and parts[0][1] == len(parts)
    return _profile(b"".join(part[2:] for part in parts)) if whole else None


class _Frame:
    """What a frame header promises, and which of it the scans bring."""

    def __init__(self, marker: int, header: bytes) -> None:
        if len(header) < 6 or len(header) < 6 + 3 * header[5]:
            raise UndecodableImage("the JPEG file is damaged or truncated")
        bits, height, width, components = struct.unpack_from(">BHHB", header)
        if marker > PROGRESSIVE:
            coding = "arithmetic coding" if marker > 0xC8 else "lossless or hierarchical coding"
            raise UnsupportedMediaType(
                f"a JPEG with {coding} (SOF{marker - 0xC0}) is not supported"
            )
        if bits != 8:
            raise UnsupportedMediaType(f"a JPEG with {bits} bits a sample is not supported")
        if components not in (1, 3, 4):
            raise UnsupportedMediaType(f"a JPEG with {components} components is not supported")
        if height == 0:
            raise UnsupportedMediaType(
                "a JPEG that gives its height after its pixels is not supported"
            )
        factors = {
            header[6 + 3 * n]: (header[7 + 3 * n] >> 4, header[7 + 3 * n] & 15)
            for n in range(components)
        }
        if len(factors) < components or not all(h and v for h, v in factors.values()):
            raise UndecodableImage("the JPEG file is damaged: its components are")
        largest = max(h for h, _ in factors.values()) * max(v for _, v in factors.values())
        self._samples = {c: width * height * h * v // largest for c, (h, v) in factors.items()}
        self._missing_bits = {component: [1] * 64 for component in factors}
        self._progressive = marker == PROGRESSIVE
        self._scanned = 0
        self._interleaved = True
        self.scans = 0

    def add_scan(self, header: bytes) -> None:
        count = header[0] if header else 0
        if len(header) < 4 + 2 * count:
            raise UndecodableImage("the JPEG file is damaged or truncated")
        first, last, low = header[-3], header[-2], header[-1] & 15
        if not self._progressive:
            first, last, low = 0, 63, 0
        for component in header[1 : 1 + 2 * count : 2]:
            self._scanned += self._samples.get(component, 0)
            missing = self._missing_bits.get(component, [])
            missing[first : last + 1] = [low] * len(missing[first : last + 1])
        if self._scanned > MAX_SCANNED_SAMPLES:
            raise UnsupportedMediaType("a JPEG with so many scans for its size is not supported")
        self.scans += 1
        self._interleaved &= count == len(self._samples)

    @property
    def is_complete(self) -> bool:
        """Whether the scans bring every bit of every coefficient."""
        return not any(any(missing) for missing in self._missing_bits.values())

    @property
    def work_bytes(self) -> int:
        """The coefficients, which are kept where a pixel's come in several scans."""
        whole = self._progressive or not self._interleaved
        return 2 * sum(self._samples.values()) if whole else 0


# --- PNG (third edition, section 5) ---

PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def strip_png(data: bytes) -> ImageFile:
    """Keeps the header, the palette and the pixels of the still image.

    Raises:
        UnsupportedMediaType: It has too many chunks, or is of Apple's own kind.
    """
    if data[12:16] == b"CgBI":
        raise UnsupportedMediaType("a PNG in the form of iOS apps (CgBI) is not supported")
    kept, orientation, profile = [data[:8]], 1, None
    at = 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        body = slice(at + 8, at + 8 + length)
        if kind == b"IEND":
            break
        if kind in PNG_KEPT and (kind != b"IHDR" or at == 8):
            kept.append(data[at : at + 12 + length])
        elif kind == b"eXIf":
            orientation = read_orientation(data[body])
        elif kind == b"iCCP":
            profile = _inflated_profile(data[body])
        at += 12 + length
    else:
        raise UnsupportedMediaType(f"a PNG of more than {MAX_PARTS} chunks is not supported")
    return ImageFile(b"".join([*kept, PNG_END]), orientation, profile)


def _inflated_profile(chunk: bytes) -> bytes | None:
    try:
        compressed = chunk[chunk.index(b"\0") + 2 :]
        return _profile(zlib.decompressobj().decompress(compressed, MAX_PROFILE_BYTES + 1))
    except (ValueError, zlib.error):
        return None


# --- WebP (RFC 9649) ---

WEBP_BYTES_A_PIXEL = 12
"""Two canvases and a copy of one, beside Pillow's pixels."""


def strip_webp(data: bytes) -> ImageFile:
    """Keeps the first frame.

    Raises:
        UndecodableImage: The header is damaged.
        UnsupportedMediaType: It has too many chunks.
    """
    kept: list[bytes] = []
    orientation, profile = 1, None
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind == b"EXIF":
            orientation = read_orientation(data[at + 8 : end])
        elif kind == b"ICCP":
            profile = _profile(data[at + 8 : at + 8 + length])
        elif kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM") or (
            kind == b"ANMF" and not any(chunk.startswith(b"ANMF") for chunk in kept)
        ):
            kept.append(data[at:end])
        at = end
    else:
        raise UnsupportedMediaType(f"a WebP of more than {MAX_PARTS} chunks is not supported")
    rest = b"WEBP" + b"".join(kept)
    width, height = _webp_size(rest)
    return ImageFile(
        b"RIFF" + struct.pack("<I", len(rest)) + rest,
        orientation,
        profile,
        work_bytes=WEBP_BYTES_A_PIXEL * width * height,
    )


def _webp_size(rest: bytes) -> tuple[int, int]:
    """The size that the decoder takes memory for as soon as it opens the file."""
    kind, body = rest[4:8], rest[12:22]
    if len(body) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if len(body) == 10 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if len(body) >= 5 and kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise UndecodableImage("the WEBP file is damaged or truncated")


# --- GIF (89a) ---


def strip_gif(data: bytes) -> ImageFile:
    """Keeps the palette, the transparent colour and the first frame with all that follows it."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    kept = [data[:at]]
    try:
        while data[at] == 0x21:
            start, at = at, at + 2
            while length := data[at]:
                at += length + 1
            at += 1
            if data[start + 1] == 0xF9:
                kept[1:] = [data[start:at]]
    except IndexError:
        raise UndecodableImage("the GIF file is damaged or truncated") from None
    return ImageFile(b"".join([*kept, data[at:]]))


# --- BMP ---


def strip_bmp(data: bytes) -> ImageFile:
    """Keeps all.

    Raises:
        UnsupportedMediaType: A kind of BMP that is not decoded.
    """
    old = data[14] == 12
    bits, compression, colours = 8, 0, 0
    if not old and len(data) >= 50:
        bits, compression, colours = struct.unpack_from("<HI12xI", data, 28)
    elif old and len(data) >= 26:
        (bits,) = struct.unpack_from("<H", data, 24)
    if bits not in (1, 4, 8, 16, 24, 32):
        raise UnsupportedMediaType(f"a BMP with {bits} bits a pixel is not supported")
    if compression not in (0, 3):  # Pillow takes seconds for run lengths, and knows no others
        raise UnsupportedMediaType(f"a BMP with compression {compression} is not supported")
    if bits > 1 and colours == 2:  # Pillow takes black and white for one bit a pixel
        raise UnsupportedMediaType(f"a BMP of {bits} bits with two colours is not supported")
    return ImageFile(data)


# --- TIFF (6.0) ---

(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER) = (256, 257, 258, 259, 262, 266)
(STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR) = (273, 274, 277, 278, 279, 284)
(PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES) = (317, 320, 322, 323, 324)
(TILE_BYTES, EXTRA, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING) = (325, 338, 339, 347, 530)
REFERENCE, PROFILE = 532, 34675

TIFF_KEPT = {
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, SAMPLES, ROWS, STRIP_BYTES,
    PLANAR, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA,
    SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING, REFERENCE,
}  # fmt: skip

TIFF_LONG = {STRIPS, STRIP_BYTES, TILES, TILE_BYTES, COLOUR_MAP, JPEG_TABLES}
"""Tags of more than a few values."""

JPEG = 7
TIFF_COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG",
                     8: "Deflate", 32773: "PackBits", 32946: "Deflate"}  # fmt: skip

TIFF_COLOURS = {0: "white-is-zero grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK",
                6: "YCbCr", 8: "Lab"}  # fmt: skip

TIFF_SAMPLES = {2: 3, 5: 4, 6: 3, 8: 3}
"""Samples a pixel of the colours that have more than one."""

TIFF_BITS = {0: (1, 2, 4, 8, 16), 1: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 5: (8, 16),
             6: (8,), 8: (8,)}  # fmt: skip
"""Bits of unsigned samples, by colours."""

SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "float"}


class _Directory:
    """The first directory of a TIFF file: its entries, by tag, the first of each."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.is_little_endian = data[:1] == b"I"
        self._order = "<" if self.is_little_endian else ">"
        self._big = 43 in data[2:4]
        self._counter, self._entry = ("Q", "HHQ8s") if self._big else ("H", "HHI4s")
        (at,) = self._unpack("Q" if self._big else "I", 8 if self._big else 4)
        (count,) = self._unpack(self._counter, at)
        at += struct.calcsize("=" + self._counter)
        size = struct.calcsize("=" + self._entry)
        end = at + size * min(count, MAX_PARTS)
        if end > len(data):
            raise UndecodableImage("the TIFF file is damaged or truncated")
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        for tag, *entry in struct.iter_unpack(self._order + self._entry, data[at:end]):
            self.entries.setdefault(tag, (entry[0], entry[1], entry[2]))

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + form, self._data, at)

    def raw(self, tag: int) -> tuple[str, bytes]:
        """Returns the type and the bytes of a tag's values."""
        kind, count, inline = self.entries[tag]
        form = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q"}.get(kind, "")
        length = count * struct.calcsize("=" + form)
        if length <= len(inline):
            return form, inline[:length]
        (at,) = struct.unpack(self._order + ("Q" if self._big else "I"), inline)
        if at + length > len(self._data):
            raise UndecodableImage("the TIFF file is damaged or truncated")
        return form, self._data[at : at + length]

    def numbers(self, tag: int, *default: int) -> tuple[int, ...]:
        """Returns the whole numbers of a tag."""
        if tag not in self.entries:
            return default
        form, values = self.raw(tag)
        if not form or not values:
            return default
        return tuple(n for (n,) in struct.iter_unpack(self._order + form, values))

    def number(self, tag: int, default: int = 0) -> int:
        """Returns the first number of a tag."""
        return self.numbers(tag, default)[0]

    def alone(self, tags: set[int], changed: dict[int, int]) -> bytes:
        """Returns the file with a directory of these tags only, short ones changed."""
        entries = [
            struct.pack(self._order + self._entry, tag, *self.entries[tag])
            if tag not in changed
            else struct.pack(
                self._order + self._entry,
                *(tag, 3, 1, struct.pack(self._order + "H", changed[tag])),
            )
            for tag in sorted(tags & {*self.entries, *changed})
        ]
        pointer = "Q" if self._big else "I"
        start = 8 if self._big else 4
        place = len(self._data) + len(self._data) % 2
        return b"".join(
            [
                self._data[:start],
                struct.pack(self._order + pointer, place),
                self._data[start + struct.calcsize("=" + pointer) :],
                bytes(len(self._data) % 2),
                struct.pack(self._order + self._counter, len(entries)),
                *entries,
                bytes(8),
            ]
        )


def _orientation(directory: _Directory) -> int:
    value = directory.number(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def strip_tiff(data: bytes) -> ImageFile:
    """Keeps the tags of the first image that say where its pixels are and what they mean.

    Raises:
        UndecodableImage: The first directory is damaged.
        UnsupportedMediaType: A kind of TIFF that is not decoded.
    """
    try:
        directory = _Directory(data)
        return _strip_tiff(directory, data)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("the TIFF file is damaged or truncated") from error


def _strip_tiff(directory: _Directory, data: bytes) -> ImageFile:
    _check_layout(directory)
    for tag in TIFF_KEPT & directory.entries.keys():
        most = MAX_VALUES if tag in TIFF_LONG else 16
        if directory.entries[tag][1] > most:
            raise UnsupportedMediaType(
                f"a TIFF with over {most} values of tag {tag} is not supported"
            )
        directory.raw(tag)
    width, height = directory.number(WIDTH), directory.number(HEIGHT)
    part = (
        directory.number(TILE_WIDTH) * directory.number(TILE_HEIGHT)
        if TILES in directory.entries
        else width * min(height, directory.number(ROWS, height))
    )
    bits = directory.number(BITS, 1) * directory.number(SAMPLES, 1)
    if directory.number(COMPRESSION, 1) == JPEG:
        _check_scans(directory, data)
        bits = 32  # decoded as four samples of 8 bits
    profile = directory.raw(PROFILE)[1] if PROFILE in directory.entries else b""
    white_is_zero = directory.number(PHOTOMETRIC) == 0 and directory.number(BITS, 1) == 16
    return ImageFile(
        directory.alone(TIFF_KEPT, {PHOTOMETRIC: 1} if white_is_zero else {}),
        _orientation(directory),
        _profile(profile),
        part,
        part * bits // 8,
        white_is_zero=white_is_zero,
    )


def _check_layout(directory: _Directory) -> None:
    """Refuses what Pillow cannot decode, and what it decodes to other pixels."""
    colour = directory.number(PHOTOMETRIC)
    samples = directory.number(SAMPLES, 1)
    bits = directory.numbers(BITS, 1)[:8]
    kinds = directory.numbers(SAMPLE_FORMAT, 1)[:8]
    compression = directory.number(COMPRESSION, 1)
    planar = directory.number(PLANAR, 1) == 2 and samples > 1
    extra = samples - TIFF_SAMPLES.get(colour, 1)
    alpha = directory.numbers(EXTRA, 2)[0] == 2
    plain = compression == 1
    if set(kinds) == {3}:
        big_endian_floats = not plain and not directory.is_little_endian
        sound = samples == 1 and bits == (32,) and colour == 1 and not big_endian_floats
    else:
        sound = set(kinds) == {1} and len(set(bits)) == 1 and bits[0] in TIFF_BITS.get(colour, ())
    sound &= extra == 0 or (extra == 1 and (colour == 2 or (colour, bits[0]) == (1, 8)))
    if planar:
        sound &= colour in (2, 5) and (extra == 0 or alpha) and compression != JPEG
        sound &= bits[0] == 8 or not plain
    sound &= compression in TIFF_COMPRESSIONS and directory.number(PREDICTOR, 1) in (1, 2)
    sound &= colour != 6 if compression != JPEG else colour in (1, 2, 6) and bits[0] == 8
    sound &= bits[0] == 1 if compression in (2, 3, 4) else True
    sound &= directory.number(FILL_ORDER, 1) == 1 or bits[0] == 1
    if not sound:
        raise UnsupportedMediaType(
            f"a TIFF of {samples} x {bits[0]}-bit"
            f" {SAMPLE_FORMATS.get(kinds[0], f'sample format {kinds[0]}')} samples,"
            f" {TIFF_COLOURS.get(colour, f'photometric interpretation {colour}')},"
            f"{' in planes,' if planar else ''}"
            f" compression {TIFF_COMPRESSIONS.get(compression, compression)}, is not supported"
        )


def _check_scans(directory: _Directory, data: bytes) -> None:
    """Refuses JPEG strips of several scans, whose number is no bound on the work."""
    tiled = TILES in directory.entries
    offsets = directory.numbers(TILES if tiled else STRIPS)
    lengths = directory.numbers(TILE_BYTES if tiled else STRIP_BYTES)
    if sum(lengths) > len(data):
        raise UndecodableImage("the TIFF file is damaged: its strips overlap")
    for start, length in zip(offsets, lengths, strict=False):
        if data.count(b"\xff\xda", start, start + length) > 1:
            raise UnsupportedMediaType("a TIFF of progressive JPEG strips is not supported")


STRIPPERS: dict[str, Callable[[bytes], ImageFile]] = {
    "JPEG": strip_jpeg,
    "PNG": strip_png,
    "WEBP": strip_webp,
    "GIF": strip_gif,
    "BMP": strip_bmp,
    "TIFF": strip_tiff,
}
"""What strips the files of each accepted format."""
