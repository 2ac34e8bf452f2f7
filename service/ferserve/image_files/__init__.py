"""An image file → the parts that its pixels need, in time linear in its length.

Metadata has cost Pillow and libtiff seconds and gigabytes: quadratic EXIF, compressed text, chains
of tags. So all of it is left out before they see the file. What is kept of it, the orientation and
the colour profile, is read here. Files of a kind that is not decoded, or made to be slow, are
refused as UnsupportedMediaType; whatever else is raised says that a file is damaged.
"""

from dataclasses import dataclass

MAX_PARTS = 10_000
"""Most segments or chunks of a file: 64 kB each, they would make 30 times the largest upload."""

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Larger colour profiles are ignored."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What is left of a file, and what was read of the rest.

    Attributes:
        orientation: 1..8, as in EXIF.
        profile: The ICC profile, None where there is none of a sensible size.
        work_bytes: What decoding takes beside the pixels and ``data``.
        work: How many more pixels would take as long as what decoding does beside them.
        is_doubtful: Whether a JPEG file may lack pixels, though it has scans and an end marker now.
        white_is_zero: Whether grey levels are to be inverted after decoding.
        is_lossless_webp: Whether it may have many Huffman codes.
    """

    data: bytes
    orientation: int = 1
    profile: bytes | None = None
    work_bytes: int = 0
    work: int = 0
    is_doubtful: bool = False
    white_is_zero: bool = False
    is_lossless_webp: bool = False


TABLES = (b"mpet", b"mft1", b"mft2", b"mAB ", b"mBA ")
"""What profiles with colour tables contain. LittleCMS takes memory for as many values as a table
claims, half a gigabyte for 300 bytes. Cameras and screens have curves and a matrix."""


def sensible_profile(profile: bytes) -> bytes | None:
    """Drops a profile that could cost too much: oversized, or with tables, as of printers."""
    sensible = 0 < len(profile) <= MAX_PROFILE_BYTES and not any(map(profile.count, TABLES))
    return profile if sensible else None
