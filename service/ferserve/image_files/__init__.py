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
"""Larger colour profiles are ignored; those of printing presses have about 2 MB."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What is left of a file, and what was read of the rest.

    Attributes:
        orientation: 1..8, as in EXIF.
        profile: The ICC profile, None where there is none of a sensible size.
        part_pixels: Pixels of a TIFF file's strip or tile, which is decoded whole.
        work_bytes: What decoding takes beside the pixels and ``data``.
        work: How many more pixels would take as long as what decoding does beside them.
        is_doubtful: Whether a JPEG file may lack pixels, though it has scans and an end marker now.
        white_is_zero: Whether grey levels are to be inverted after decoding.
    """

    data: bytes
    orientation: int = 1
    profile: bytes | None = None
    part_pixels: int = 0
    work_bytes: int = 0
    work: int = 0
    is_doubtful: bool = False
    white_is_zero: bool = False


def sensible_profile(profile: bytes) -> bytes | None:
    """Drops a profile that would cost too much: oversized, or of elements without a bound."""
    sensible = 0 < len(profile) <= MAX_PROFILE_BYTES and b"mpet" not in profile
    return profile if sensible else None
