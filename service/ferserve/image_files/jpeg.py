"""JPEG files (ITU-T T.81, annex B)."""

import re
import struct

from ferserve.errors import UndecodableImage, UnsupportedMediaType
from ferserve.image_files import MAX_PARTS, ImageFile, sensible_profile
from ferserve.image_files.tiff import read_orientation

MAX_TABLE_BYTES = 64 * 1024
"""Most bytes of a JPEG file's tables before its pixels; four of each kind have under 3 kB."""

MAX_SCANNED_SAMPLES = 750_000_000
"""Most samples that all scans of a JPEG file pass over: about a second of work, or two where pixels
may be missing. A progressive file of 50 megapixels has ten scans and passes over 0.4 to 0.7
billion."""

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
    """Keeps tables, frame and scans."""
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
        raise UndecodableImage("the JPEG file is truncated and padded")
    profile.sort()  # each part begins with its number and how many there are
    sizes = [len(part) for part in profile]
    is_whole = min(sizes, default=0) > 2 and profile[0][1] == len(sizes)
    return ImageFile(
        b"".join([*kept, b"\xff\xd9"]),
        read_orientation(exif),
        sensible_profile(b"".join(part[2:] for part in profile) if is_whole else b""),
        work_bytes=frame.work_bytes,
        work=frame.scanned // 32,  # so many take as long as a pixel of another format
        is_doubtful=not (has_end and frame.is_complete),
    )


class _Frame:
    """What a frame header promises, and which of it the scans bring."""

    def __init__(self, marker: int, header: bytes) -> None:
        if len(header) < 6 or len(header) < 6 + 3 * header[5]:
            raise UndecodableImage("the JPEG file is damaged or truncated")
        bits, height, width, components = struct.unpack_from(">BHHB", header)
        coding = "arithmetic coding" if marker > 0xC8 else "lossless or hierarchical coding"
        for is_unknown, kind in (
            (marker > PROGRESSIVE, f"with {coding} (SOF{marker - 0xC0})"),
            (bits != 8, f"with {bits} bits a sample"),
            (components not in (1, 3, 4), f"with {components} components"),
            (height == 0, "that gives its height after its pixels"),
        ):
            if is_unknown:
                raise UnsupportedMediaType(f"a JPEG {kind} is not supported")
        parts = struct.iter_unpack("3B", header[6 : 6 + 3 * components])
        factors = {name: (both >> 4, both & 15) for name, both, _ in parts}
        if len(factors) < components or not all(h and v for h, v in factors.values()):
            raise UndecodableImage("the JPEG file has damaged components")
        largest = max(h for h, _ in factors.values()) * max(v for _, v in factors.values())
        self._samples = {c: width * height * h * v // largest for c, (h, v) in factors.items()}
        self._missing_bits = {component: [1] * 64 for component in factors}
        self._progressive = marker == PROGRESSIVE
        self.scanned = 0
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
            self.scanned += self._samples.get(component, 0)
            missing = self._missing_bits.get(component, [])
            missing[first : last + 1] = [low] * len(missing[first : last + 1])
        if self.scanned > MAX_SCANNED_SAMPLES:
            raise UnsupportedMediaType("a JPEG with this many scans for its size is not supported")
        self.scans += 1
        self._interleaved &= count == len(self._samples)

    @property
    def is_complete(self) -> bool:
        return not any(any(missing) for missing in self._missing_bits.values())

    @property
    def work_bytes(self) -> int:
        """The coefficients, which are kept where a pixel's come in several scans."""
        whole = self._progressive or not self._interleaved
        return 2 * sum(self._samples.values()) if whole else 0
