"""Files of PNG, WebP, GIF and BMP."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from ferserve.errors import UnsupportedMediaType
from ferserve.image_files import MAX_PARTS, MAX_PROFILE_BYTES, ImageFile, sensible_profile
from ferserve.image_files.tiff import read_orientation


def _chunks(data: bytes, at: int, name: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yields kind, body and all of each chunk of a PNG or WebP file."""
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        if name == "PNG":
            length, kind = struct.unpack_from(">I4s", data, at)
            end = at + 12 + length
        else:
            kind, length = struct.unpack_from("<4sI", data, at)
            end = at + 8 + length + length % 2
        yield kind, data[at + 8 : at + 8 + length], data[at:end]
        at = end
    raise UnsupportedMediaType(f"a {name} of more than {MAX_PARTS} chunks is not supported")


PNG_KEPT = {b"PLTE", b"tRNS", b"IDAT"}
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def strip_png(data: bytes) -> ImageFile:
    """Keeps the header, the palette and the pixels of the still image."""
    if data[12:16] == b"CgBI":
        raise UnsupportedMediaType("a PNG in the form of iOS apps (CgBI) is not supported")
    kept, orientation, profile, compressed = [data[:8]], 1, None, b""
    for kind, body, chunk in _chunks(data, 8, "PNG"):
        if kind == b"IEND":
            break
        if kind in PNG_KEPT or (kind == b"IHDR" and len(kept) == 1):
            kept.append(chunk)
        elif kind == b"eXIf":
            orientation = read_orientation(body)
        elif kind == b"iCCP":
            compressed = compressed or body.partition(b"\0")[2][1:]
    with suppress(zlib.error):
        unpacked = zlib.decompressobj().decompress(compressed, MAX_PROFILE_BYTES + 1)
        profile = sensible_profile(unpacked)
    width, height, depth, colour = struct.unpack(">II2B", data[16:26].ljust(10, b"\0"))
    has_clear_colour = any(chunk[4:8] == b"tRNS" for chunk in kept)
    if has_clear_colour and (depth, colour) in ((2, 0), (4, 0), (16, 0), (16, 2)):
        # Pillow compares the colour with values that it has scaled.
        raise UnsupportedMediaType(
            f"a PNG of {depth} bits with a transparent colour is not supported"
        )
    is_slow = depth == 16 and colour in (2, 6)  # colours of 16 bits take twice the time of others
    work = width * height if is_slow else 0
    return ImageFile(b"".join([*kept, PNG_END]), orientation, profile, work_bytes=work, work=work)


WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM"}


def strip_webp(data: bytes) -> ImageFile:
    """Keeps the first frame (RFC 9649)."""
    kept, orientation, profile, has_frame = [b"WEBP"], 1, None, False
    lossless = False
    for kind, body, chunk in _chunks(data, 12, "WebP"):
        if kind == b"EXIF":
            orientation = read_orientation(body)
        elif kind == b"ICCP":
            profile = sensible_profile(body)
        elif kind in WEBP_KEPT or (kind == b"ANMF" and not has_frame):
            kept.append(chunk)
            has_frame |= kind == b"ANMF"
            parts = (kind, body[16:20], body[16:40])  # a frame's own parts follow its head
            lossless |= any(name in part for name in (b"VP8L", b"ALPH") for part in parts)
    rest = b"".join(kept)
    return ImageFile(
        b"RIFF" + struct.pack("<I", len(rest)) + rest,
        orientation,
        profile,
        is_lossless_webp=lossless,
    )


MAX_GIF_BLOCKS = 100_000
"""Most blocks before the first frame; they have at most 255 bytes, and XMP has many short ones."""


def strip_gif(data: bytes) -> ImageFile:
    """Keeps the palette, the transparent colour and the first frame with all that follows it."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    kept = [data[:at]]
    blocks = 0
    while data[at] == 0x21:
        start, at = at, at + 2
        while (length := data[at]) and blocks <= MAX_GIF_BLOCKS:
            at += length + 1
            blocks += 1
        at += 1
        blocks += 1
        if blocks > MAX_GIF_BLOCKS:
            raise UnsupportedMediaType(
                f"a GIF of more than {MAX_GIF_BLOCKS} blocks is not supported"
            )
        if data[start + 1] == 0xF9:
            kept[1:] = [data[start:at]]
    return ImageFile(b"".join([*kept, data[at:]]))


def strip_bmp(data: bytes) -> ImageFile:
    """Keeps all."""
    bits, compression, colours = 8, 0, 0
    if data[14] != 12 and len(data) >= 50:
        bits, compression, colours = struct.unpack_from("<HI12xI", data, 28)
    elif data[14] == 12 and len(data) >= 26:
        (bits,) = struct.unpack_from("<H", data, 24)
    for is_unknown, kind in (
        (bits not in (1, 4, 8, 16, 24, 32), f"with {bits} bits a pixel"),
        # Pillow takes seconds for run lengths, and knows no others.
        (compression not in (0, 3), f"with compression {compression}"),
        # Pillow takes black and white for one bit a pixel.
        (bits > 1 and colours == 2, f"of {bits} bits with two colours"),
    ):
        if is_unknown:
            raise UnsupportedMediaType(f"a BMP {kind} is not supported")
    return ImageFile(data)
