"""Bytes to an upright image: sniffing, limits, EXIF orientation, every pixel mode.

Knows nothing of HTTP and keeps no state, so any number of threads may decode at once. Nothing is
written to disk.
"""

import io
import math
import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.ExifTags import Base as ExifTag
from PIL.TiffImagePlugin import TiffImageFile

from ferserve.errors import (
    ImageTooSmall,
    Refusal,
    TooManyPixels,
    UndecodableImage,
    UnsupportedMediaType,
)

MIN_SIDE = 8
"""Shortest side accepted, in pixels: below it there is nothing to call a face."""

SIGNATURES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    # "BM" alone also opens plain text: ask for one of the known header lengths too.
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
)
"""Accepted formats by Pillow's name, and how their files begin."""

PNG_HEADER = re.compile(rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR.{8}", re.DOTALL)
"""Up to width and height, two big-endian integers (PNG specification, section 11.2.1)."""

TILE_WIDTH, TILE_LENGTH = 322, 323
"""TIFF tags (TIFF 6.0, section 15)."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation (tag 0x0112; 1 is upright already)."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations in which width and height change places."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An upright image.

    Attributes:
        pixels: uint8 ``[rows, columns, 3]``, sRGB, or ``[rows, columns]`` of plain 8-bit grey, with
            no transparency or colour profile; C-contiguous, read-only; perhaps fewer than the file
            has.
        width: Pixels from left to right of the file's image.
        height: Pixels from top to bottom of the file's image.
        format: ``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``BMP`` or ``TIFF``.
        exif_orientation: What the file said, 1..8; it is already applied.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    exif_orientation: int

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The pixels, grey ones as colours, uint8 ``[rows, columns, 3]``."""
        if self.pixels.ndim == 3:
            return self.pixels
        return np.repeat(self.pixels[:, :, np.newaxis], 3, axis=2)


def decode_image(data: bytes, max_pixels: int, draft_side: int | None = None) -> DecodedImage:
    """Decodes the first frame of an image file.

    Transparency is composited over white; colours are converted to sRGB where the file carries a
    usable ICC profile.

    Args:
        data: The file's bytes. The format is told by content, never by a name.
        max_pixels: Largest width times height; checked in the header, before pixels are decoded.
            Pillow's own limit of 2 * ``Image.MAX_IMAGE_PIXELS`` holds as well.
        draft_side: Longer side that is enough, in pixels: a JPEG file is then decoded to a half, a
            quarter or an eighth of its sides, for as much less work, but not below this. None asks
            for all pixels.

    Raises:
        UnsupportedMediaType: None of the accepted formats.
        UndecodableImage: Empty, damaged or truncated.
        TooManyPixels: More than ``max_pixels``.
        ImageTooSmall: Shorter side under ``MIN_SIDE`` pixels.
    """
    file_format = _sniff(data)
    # Pillow's plugins answer damaged files with almost any exception there is (OSError,
    # SyntaxError, struct.error, ValueError, TypeError, ...): all of them mean "undecodable".
    try:
        with Image.open(io.BytesIO(data), formats=[file_format]) as image:
            _check_size(image, max_pixels)
            stored = image.size
            if draft_side and file_format == "JPEG":
                _draft(image, draft_side)
            # Pillow turns TIFF itself while loading and drops the tag; PNG may carry EXIF only
            # after its pixels. So TIFF is asked before, and all are asked after.
            said = _orientation(image) if file_format == "TIFF" else 1
            image.load()
            left = _orientation(image)
            upright = _to_srgb_or_grey(_turn(image, left))
    except (Refusal, MemoryError):  # the latter is no fault of the image
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(
            f"the image has too many pixels; at most {max_pixels} are accepted"
        ) from error
    except Exception as error:
        raise UndecodableImage(f"the {file_format} file is damaged or truncated") from error
    width, height = upright.size
    if file_format == "JPEG":  # of which fewer pixels may have been decoded than there are
        width, height = reversed(stored) if left in SIDEWAYS else stored
    orientation = left if said == 1 else said
    return DecodedImage(np.asarray(upright), width, height, file_format, orientation)


def _draft(image: Image.Image, side: int) -> None:
    """Has an image that is not loaded yet decoded to no fewer pixels than asked for."""
    scale = min(1.0, side / max(image.size))
    width, height = image.size
    image.draft(None, (math.ceil(scale * width), math.ceil(scale * height)))


def peek_size(data: bytes) -> tuple[int, int] | None:
    """Reads width and height, as stored, from the header of a PNG or JPEG file.

    Returns:
        None for any other format, for a damaged header, and where colours need a conversion, which
        takes longer to set up than a small image to decode.
    """
    if b"iCCP" in data:  # Pillow takes a PNG's profile from behind its pixels, too
        return None
    if PNG_HEADER.match(data) and data.count(b"IHDR") == 1:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return None if "icc_profile" in image.info else image.size
    except Exception:  # of any class, as in decode_image, which says what is wrong
        return None


def _sniff(data: bytes) -> str:
    if not data:
        raise UndecodableImage("the body is empty")
    for name, signature in SIGNATURES:
        if signature.match(data):
            return name
    accepted = ", ".join(name for name, _ in SIGNATURES)
    raise UnsupportedMediaType(f"the bytes are no image of an accepted format ({accepted})")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image has {width} x {height} = {width * height} pixels;"
            f" at most {max_pixels} are accepted"
        )
    # A tile is decoded whole, however little of it lies inside the image.
    tiles = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if tiles.get(TILE_WIDTH, 0) * tiles.get(TILE_LENGTH, 0) > max_pixels:
        raise TooManyPixels(f"a tile of the image has more than {max_pixels} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(
            f"the image has {width} x {height} pixels; each side needs at least {MIN_SIDE}"
        )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # broken EXIF is no reason to refuse a picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    """Turns a loaded image upright, keeping the notes on transparency and colour."""
    turn = UPRIGHT.get(orientation)
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def _to_srgb_or_grey(image: Image.Image) -> Image.Image:
    """Any mode to RGB, over white and in sRGB; plain grey stays as it is."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        image = with_alpha.convert("L" if grey else "RGB")
    if alpha is None and image.mode == "L" and not profile:
        return image
    image = _to_srgb(image, profile)
    if alpha is None:
        return image
    return Image.composite(image, Image.new("RGB", image.size, "white"), alpha)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to mode L.

    Integers are taken as 16-bit (65,535 is white) and floats as 0..1, or 0..255 when a value is
    over 1. Values outside these ranges have no agreed white: they are stretched from the least to
    the greatest.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    white = 65535.0 if image.mode != "F" else 1.0 if high <= 1 else 255.0
    if low < 0 or high > white:
        values, white = values - low, max(high - low, 1.0)
    return Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts to RGB through the file's ICC profile, or plainly where it has no usable one."""
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    try:
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        elif image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return image.convert("RGB")
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        converted = None
    return converted or image.convert("RGB")
