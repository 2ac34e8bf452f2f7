"""Small requests that are made to cost much: memory, processor time, or a decoder for long."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from PIL import Image, ImageCms

MEBI = 1024 * 1024
UPLOAD = 20 * MEBI - 4096
"""Just within the default limit."""

ENTRY = struct.pack("<HHII", 0x9999, 2, 1 * MEBI, 8)
"""A tag of a megabyte of text; a directory of them has been parsed in quadratic time."""


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def exif(size: int) -> bytes:
    count = min(65_535, size // 24)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + count * ENTRY + bytes(size - 12 * count)


BOMB = zlib.compress(bytes(4 * MEBI), 9)


def small() -> Image.Image:
    return Image.effect_noise((64, 64), 60).convert("RGB")


def deflated(size: int) -> bytes:
    """At least so many zeros in zlib's format; a megabyte of them is compressed, and repeated."""
    deflate, blocks = zlib.compressobj(9, wbits=-15), size // MEBI + 1
    block = deflate.compress(bytes(MEBI)) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", blocks * MEBI % 65_521, 1)  # Adler-32 of zeros
    return b"\x78\xda" + blocks * block + deflate.flush() + checksum


def png(
    width: int, height: int, colour_type: int, depth: int, *chunks: bytes, interlace: int = 0
) -> bytes:
    """A PNG of zeros."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row_bytes = 1 + (width * samples * depth + 7) // 8
    header = struct.pack(">II5B", width, height, depth, colour_type, 0, 0, interlace)
    body = deflated(row_bytes * (height + 8))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@cache
def _progressive(side: int) -> bytes:
    return encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)


def progressive(side: int, scans: int) -> bytes:
    data = _progressive(side)
    return data[:-2] + scans * data[data.rindex(b"\xff\xda") : -2] + b"\xff\xd9"


def flat_webp(side: int) -> bytes:
    """One colour, which takes no bits a pixel: the size stands in the header alone."""
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 99))
    data = bytearray(encoded(image, "WEBP", lossless=True, method=0))
    (bits,) = struct.unpack_from("<I", data, 21)
    struct.pack_into("<I", data, 21, bits >> 28 << 28 | (side - 1) << 14 | side - 1)
    return bytes(data)


def tiff(
    fields: dict[int, int | list[int]], body: bytes, extra: bytes = b"", extras: int = 0
) -> bytes:
    """The body is at 8, then comes the directory, then the lists of its values."""
    at = 8 + len(body)
    entries, lists = b"", b""
    for tag, value in fields.items():
        place = at + 2 + 12 * (len(fields) + extras) + 4 + len(lists)
        if isinstance(value, int):
            entries += struct.pack("<HHII", tag, 4, 1, value)
        else:
            entries += struct.pack("<HHII", tag, 4, len(value), place)
            lists += struct.pack(f"<{len(value)}I", *value)
    directory = struct.pack("<H", len(fields) + extras) + entries + extra + bytes(4)
    return b"II*\0" + struct.pack("<I", at) + body + directory + lists


def plain_tiff(side: int, bits: int, kind: int) -> bytes:
    """One deflated strip."""
    body = deflated(side * side * bits // 8)
    fields = {256: side, 257: side, 258: bits, 259: 8, 262: 1, 273: 8, 277: 1, 278: side}
    return tiff({**fields, 279: len(body), 339: kind}, body)


def other_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))


def pictures() -> dict[str, Callable[[], bytes]]:
    """Makes each file when it is wanted: together they would fill the memory."""
    return {
        "a lossless WebP of 7000 x 7000 with alpha": lambda: flat_webp(7000),
        "the largest WebP that is taken": lambda: flat_webp(2900),
        "a PNG of 7000 x 7000 with alpha and a profile": lambda: png(
            7000, 7000, 6, 8, chunk(b"iCCP", b"p\0\0" + zlib.compress(other_profile()))
        ),
        "the largest PNG that is taken, with a profile": lambda: png(
            5800, 5800, 6, 8, chunk(b"iCCP", b"p\0\0" + zlib.compress(other_profile()))
        ),
        "an interlaced PNG of 16 bits": lambda: png(5000, 5000, 6, 16, interlace=1),
        "a PNG of 7000 x 7000 in grey": lambda: png(7000, 7000, 0, 8),
        "a PNG of 7000 x 7000 in 16-bit grey": lambda: png(7000, 7000, 0, 16),
        "a PNG of 4,200,000 x 8": lambda: png(4_200_000, 8, 6, 8),
        "a palette PNG of 6,200,000 x 8": lambda: png(
            6_200_000, 8, 3, 8, chunk(b"PLTE", bytes(768)), chunk(b"tRNS", b"\0")
        ),
        "a float TIFF of one strip": lambda: plain_tiff(7000, 32, 3),
        "the largest float TIFF that is taken": lambda: plain_tiff(4000, 32, 3),
        "a 16-bit TIFF of one strip": lambda: plain_tiff(5000, 16, 1),
        "a progressive JPEG of 170 more scans": lambda: progressive(7000, 170),
        "a progressive JPEG of 7000 x 7000": lambda: progressive(7000, 0),
        "a small JPEG of 200,000 scans": lambda: progressive(64, 200_000),
        "a JPEG of 7000 x 7000 without its end": lambda: encoded(
            Image.new("RGB", (7000, 7000)), "JPEG"
        )[:-2],
        "EXIF of JPEG": lambda: _in_jpeg(300 * segment(0xE1, b"Exif\0\0" + exif(65_000))),
        "tiny segments of JPEG": lambda: _in_jpeg((UPLOAD // 4 - 2000) * segment(0xE5, b"")),
        "comments of JPEG": lambda: _in_jpeg(300 * segment(0xFE, bytes(65_000))),
        "fill bytes of JPEG": lambda: _in_jpeg((UPLOAD - 9000) * b"\xff"),
        "a JPEG of markers without an end": lambda: b"\xff\xd8" + (UPLOAD - 9000) * b"\xff",
        "a JPEG of empty scans": lambda: _in_jpeg(9000 * segment(0xDA, bytes(10))),
        "tables of JPEG": lambda: _in_jpeg(300 * segment(0xDB, 1000 * (b"\0" + 64 * b"\1"))),
        "EXIF of PNG": lambda: png(64, 64, 2, 8, chunk(b"eXIf", exif(UPLOAD - 9000))),
        "profiles of PNG": lambda: png(64, 64, 2, 8, 4000 * chunk(b"iCCP", b"p\0\0" + BOMB)),
        "EXIF of WebP": lambda: _in_webp(riff(b"EXIF", exif(UPLOAD - 20_000))),
        "empty chunks of PNG": lambda: png(64, 64, 2, 8, 1_700_000 * chunk(b"tEXt", b"")),
        "pixels of PNG in chunks of one byte": lambda: _crumbled(png(5000, 5000, 2, 8)),
        "tags of TIFF": lambda: tiff(
            {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096},
            bytes(4096),
            b"".join(struct.pack("<HHII", 40_000 - n % 30_000, 4, 1, 0) for n in range(65_000)),
            65_000,
        ),
        "orientations of TIFF": lambda: tiff(
            {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096},
            bytes(range(256)) * (UPLOAD // 256),
            struct.pack("<HHII", 274, 3, UPLOAD // 2 - 512, 8),
            1,
        ),
        "a chain of TIFF directories": lambda: encoded(
            small(), "TIFF", save_all=True, append_images=300 * [Image.new("L", (1, 1))]
        ),
        "a TIFF of 99,000 strips": lambda: _strips(bytes(18 * MEBI)),
        "a TIFF of 99,000 strips that are the same 15 MB": lambda: tiff(
            {256: 8, 257: 99_000, 258: 1, 259: 32773, 262: 1, 266: 2, 273: 99_000 * [8], 277: 1,
             278: 1, 279: 99_000 * [15 * MEBI]},
            bytes(15 * MEBI),
        ),
        "comments of GIF": lambda: _in_gif(b"!\xfe" + (UPLOAD // 2 - 9000) * b"\1c" + b"\0"),
        "extensions of GIF": lambda: _in_gif((UPLOAD // 3 - 9000) * b"!\x01\0"),
        "a GIF whose frame is larger than its screen": _overhanging_gif,
        "an animated GIF": lambda: encoded(
            Image.new("P", (5000, 5000)), "GIF", save_all=True,
            append_images=[Image.new("P", (5000, 5000), 1)],
        ),
        "an APNG": lambda: encoded(
            Image.new("RGB", (3000, 3000)), "PNG", save_all=True,
            append_images=[Image.new("RGB", (3000, 3000), (1, 0, 0))],
        ),
        "an animated WebP": lambda: encoded(
            Image.new("RGB", (2800, 2800)), "WEBP", save_all=True, method=0, lossless=True,
            append_images=[Image.new("RGB", (2800, 2800), (1, 0, 0))],
        ),
        "a run-length BMP": lambda: _bmp(7000, 8, 1, 3_000_000 * b"\xff\0"),
        "a BMP of 32 bits": lambda: _bmp(2200, 32, 0, bytes(2200 * 2200 * 4)),
        "the largest CMYK TIFF that is taken": lambda: encoded(
            Image.new("CMYK", (5500, 5500), (9, 99, 0, 50)), "TIFF", compression="tiff_lzw"
        ),
        "a profile of 3 MB": lambda: encoded(
            small(), "PNG", icc_profile=other_profile() + bytes(3 * MEBI)
        ),
    }  # fmt: skip


def batches() -> dict[str, Callable[[], bytes]]:
    """Makes a picture just within the limits of one; a request may have many of them."""
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(other_profile()))
    return {
        "interlaced PNGs of 16 bits": lambda: png(5000, 5000, 6, 16, interlace=1),
        "interlaced PNGs with a profile": lambda: png(2559, 2559, 6, 8, profile, interlace=1),
        "WebP": lambda: flat_webp(2900),
        "small progressive JPEGs": lambda: progressive(500, 2400),
        "TIFFs of 99,000 strips": lambda: _strips(bytes(64)),
    }


def documents() -> dict[str, Callable[[], bytes]]:
    """JSON bodies with an image in base64."""
    data = base64.b64encode(encoded(small(), "PNG")).decode()
    return {
        "base64 with blanks": lambda: json.dumps(
            {"image": data[:4] + (UPLOAD - 9000 - len(data)) // 3 * " A" + data[4:]}
        ).encode(),
        "base64 with line breaks": lambda: json.dumps(
            {"image": data[:4] + (UPLOAD // 4 - len(data)) * "\n" + data[4:]}
        ).encode(),
    }


def _in_jpeg(segments: bytes) -> bytes:
    data = encoded(small(), "JPEG")
    return data[:2] + segments + data[2:]


def _in_webp(more: bytes) -> bytes:
    extended = riff(b"VP8X", b"\x0c\0\0\0" + 2 * struct.pack("<I", 63)[:3])
    body = b"WEBP" + extended + encoded(small(), "WEBP")[12:] + more
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _in_gif(blocks: bytes) -> bytes:
    data = encoded(small(), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + blocks + data[at:]


def _overhanging_gif() -> bytes:
    data = bytearray(encoded(Image.new("L", (64, 64)), "GIF"))
    at = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    data[at + 5 : at + 9] = struct.pack("<HH", 12_000, 12_000)
    return bytes(data)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _crumbled(data: bytes) -> bytes:
    pieces = []
    for kind, body in _chunks(data):
        size = 1 if kind == b"IDAT" else len(body) or 1
        pieces += [chunk(kind, body[at : at + size]) for at in range(0, len(body) or 1, size)]
    return data[:8] + b"".join(pieces)


def _strips(body: bytes) -> bytes:
    fields = {256: 8, 257: 99_000, 258: 8, 259: 1, 262: 1, 273: 99_000 * [8], 277: 1, 278: 1}
    return tiff({**fields, 279: 99_000 * [8]}, body)


def _bmp(side: int, bits: int, compression: int, body: bytes) -> bytes:
    colours = bytes(1024) if bits == 8 else b""
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, compression, 0, 0, 0, 0, 0)
    start = 14 + len(header) + len(colours)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + colours + body
