"""Bytes to an upright image: sniffing, limits, EXIF orientation, every pixel mode.

Knows nothing of HTTP and keeps no state, so any number of threads may decode at once. Nothing is
written to disk.
"""

import io
import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ferserve.errors import (
    ImageTooSmall,
    Refusal,
    TooManyPixels,
    UndecodableImage,
    UnsupportedMediaType,
)
from ferserve.image_files import ImageFile
from ferserve.image_files.jpeg import strip_jpeg
from ferserve.image_files.others import strip_bmp, strip_gif, strip_png, strip_webp
from ferserve.image_files.tiff import strip_tiff

MIN_SIDE = 8
"""Shortest side accepted, in pixels: below it there is nothing to call a face."""

FORMATS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], ImageFile]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), strip_jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), strip_png),
    "WEBP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), strip_webp),
    "GIF": (re.compile(rb"GIF8[79]a"), strip_gif),
    # "BM" alone also opens plain text: ask for one of the known header lengths too.
    "BMP": (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), strip_bmp),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), strip_tiff),
}
"""Accepted formats by Pillow's name: how their files begin, and what leaves their metadata out."""

PNG_HEADER = re.compile(rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR.{8}", re.DOTALL)
"""Up to width and height, two big-endian integers (PNG specification, section 11.2.1)."""

SIDEWAYS, ACROSS, DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
"""EXIF orientations (tag 0x0112) that transpose a picture, then mirror it across, and down."""

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
"""Bytes that Pillow takes for a pixel; 4 in all other modes."""

ROW_BYTES = 16
"""The same for a row."""

FORMAT_COSTS = {"JPEG": (0, 0.0), "PNG": (0, 1.6), "WEBP": (12, 1.5)}
"""Bytes that a pixel takes beside them, and its work; 0 and 1 in all other formats. WebP has two
canvases and a copy of one."""

PIECE_PIXELS = 512 * 1024
"""Pixels that are converted at a time."""

MAX_CODES, CODE_BYTES = 65_536, 5_800
"""Most groups of Huffman codes of a lossless WebP file, one for 4x4 pixels at most, each with 20
bits in the file; and what libwebp takes for one."""

Reserve = Callable[[int, int, int], AbstractContextManager[None]]

FILLER = bytes(167 * n % 251 for n in range(4096))
"""Noise without markers, which no picture continues with."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An upright image.

    Attributes:
        pixels: uint8 ``[rows, columns, 3]``, sRGB, or ``[rows, columns]`` of plain 8-bit grey;
            C-contiguous, read-only; perhaps fewer than the file has.
        width: Of the upright image in the file, as ``height``.
        format: One of ``FORMATS``.
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


def decode_image(
    data: bytes, max_pixels: int, draft_side: int | None = None, reserve: Reserve | None = None
) -> DecodedImage:
    """Decodes the first frame of an image file.

    Transparency is composited over white; colours are converted to sRGB where the file carries a
    usable ICC profile.

    Args:
        data: The file's bytes. Content decides the format, never a name.
        max_pixels: Largest width times height; checked in the header, before pixels are decoded.
        draft_side: Longer side that is enough, in pixels: a larger picture is shrunk by a whole
            number, but not below this, which takes JPEG files much less work. None asks for all
            pixels.
        reserve: Holds the bytes that decoding takes, and is told the work, in pixels of about 30
            ns, and the bytes that it may take beside; may refuse by raising.

    Raises:
        UnsupportedMediaType: None of the accepted formats, or of a kind that is not decoded.
        UndecodableImage: Empty, damaged or truncated.
        TooManyPixels: More than ``max_pixels``.
        ImageTooSmall: Shorter side under ``MIN_SIDE`` pixels.
    """
    if not data:
        raise UndecodableImage("the body is empty")
    formats = (name for name, (signature, _) in FORMATS.items() if signature.match(data))
    if (file_format := next(formats, None)) is None:
        accepted = ", ".join(FORMATS)
        raise UnsupportedMediaType(f"the bytes are not an image of an accepted format ({accepted})")
    try:
        return _decode(data, file_format, max_pixels, draft_side, reserve)
    except (Refusal, MemoryError):  # the latter is not the fault of the image
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"the image has too many pixels; at most {max_pixels} are accepted"
        ) from error
    except Exception as error:  # Pillow may raise almost any
        if str(error).startswith("Unsupported"):  # as its BMP plugin says
            raise UnsupportedMediaType(str(error)) from error
        raise UndecodableImage(f"the {file_format} file is damaged or truncated") from error


def _decode(
    data: bytes, file_format: str, max_pixels: int, draft_side: int | None, reserve: Reserve | None
) -> DecodedImage:
    file = FORMATS[file_format][1](data)
    image = Image.open(io.BytesIO(file.data), formats=[file_format])
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image has {width} x {height} = {width * height} pixels;"
            f" at most {max_pixels} are accepted"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(
            f"the image has {width} x {height} pixels; each side needs at least {MIN_SIDE}"
        )
    pixels, ends_grey = _load(image, file, draft_side, reserve)
    if file.is_doubtful or ends_grey:
        # A file has all its pixels if none depends on what follows its data.
        filled = io.BytesIO(file.data[:-2] + FILLER + file.data[-2:])
        other = Image.open(filled, formats=[file_format])
        if not np.array_equal(pixels, _load(other, file, draft_side, reserve)[0]):
            raise UndecodableImage(f"the {file_format} file is damaged or truncated")
    if file.orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
        width, height = height, width
    down = -1 if file.orientation in DOWN else 1
    across = -1 if file.orientation in ACROSS else 1
    pixels = np.ascontiguousarray(pixels[::down, ::across])
    pixels.flags.writeable = False
    return DecodedImage(pixels, width, height, file_format, file.orientation)


def _load(
    image: Image.Image, file: ImageFile, draft_side: int | None, reserve: Reserve | None
) -> tuple[NDArray[np.uint8], bool]:
    """Decodes the pixels, and tells whether a JPEG ends in the grey that stands for missing ones.

    That is all that libjpeg shows of a file that was cut and then closed with an end marker.
    """
    if draft_side and image.format == "JPEG":
        scale = min(1.0, draft_side / max(image.size))
        image.draft(None, (math.ceil(scale * image.width), math.ceil(scale * image.height)))
    taken = reserve(*_cost_of(image, file, draft_side)) if reserve else nullcontext()
    with taken, closing(image):
        image.load()
        corner = (image.width - 1, image.height - 1, image.width, image.height)
        ends_grey = image.format == "JPEG" and set(image.crop(corner).tobytes()) <= {127, 128}
        return _to_pixels(image, file, draft_side), ends_grey


def _cost_of(image: Image.Image, file: ImageFile, side: int | None) -> tuple[int, int, int]:
    """Estimates the bytes that decoding takes, its work, and bytes that it seldom takes beside."""
    pixels = image.width * image.height
    made = pixels // _factor(image, side) ** 2
    more_bytes, work = FORMAT_COSTS.get(image.format or "", (0, 1.0))
    stored = (PIXEL_BYTES.get(image.mode, 4) + more_bytes) * pixels + ROW_BYTES * image.height
    codes = min(MAX_CODES, pixels // 16, 8 * len(file.data) // 20) if file.is_lossless_webp else 0
    worked = file.work + int(work * pixels) + (3 * made // 4 if file.profile else 0)
    needed = len(file.data) + file.work_bytes + stored + 2 * 3 * made
    return needed, worked, CODE_BYTES * codes


def peek_size(data: bytes) -> tuple[int, int] | None:
    """Reads width and height, as stored, from the header of a PNG or JPEG file.

    None for any other format, for a damaged file, and where colours need a conversion, which takes
    longer to set up than a small image to decode.
    """
    if b"iCCP" in data:  # Pillow takes a PNG's profile from behind its pixels, too
        return None
    if PNG_HEADER.match(data) and data.count(b"IHDR") == 1:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    try:
        file = strip_jpeg(data)  # Pillow may find another header in what this leaves out
        with Image.open(io.BytesIO(file.data), formats=["JPEG"]) as image:
            return None if file.profile else image.size
    except Exception:  # of any class, as in decode_image, which says what is wrong
        return None


def _factor(image: Image.Image, side: int | None) -> int:
    """By how much the picture is shrunk along each side."""
    return max(1, max(image.size) // side) if side else 1


def _to_pixels(image: Image.Image, file: ImageFile, side: int | None) -> NDArray[np.uint8]:
    """Shrinks and converts a loaded image, a piece at a time: copies of it would add up."""
    factor = _factor(image, side)
    is_deep = image.mode.startswith(("I", "F"))
    # Some programs leave the alpha of a BMP empty.
    is_opaque = image.format == "BMP" and image.mode == "RGBA" and image.getextrema()[-1] == (0, 0)
    white = _white(image) if is_deep else 0.0
    is_grey = is_deep or image.mode in ("L", "LA", "La")
    mode = "L" if is_grey else "CMYK" if image.mode == "CMYK" else "RGB"
    transform = _to_srgb(mode, file.profile)
    stays_grey = is_grey and not file.profile and (is_deep or not image.has_transparency_data)

    def convert(piece: Image.Image) -> Image.Image:
        if is_deep:
            values = np.asarray(piece).astype(np.float32) * np.float32(255 / white)
            grey = np.rint(values).astype(np.uint8)
            piece = Image.fromarray(~grey if file.white_is_zero else grey)
        elif piece.has_transparency_data and not is_opaque:
            piece = piece.convert("RGBA")
        else:
            piece = _in_mode(piece, mode)
        if factor > 1:
            piece = piece.reduce(factor)
        if stays_grey:
            return piece
        alpha = piece.getchannel("A") if piece.mode == "RGBA" else None
        piece = _in_mode(piece, mode)
        piece = transform.apply(piece) if transform else _in_mode(piece, "RGB")
        if alpha:
            piece = Image.composite(piece, Image.new("RGB", piece.size, "white"), alpha)
        return piece

    size = (-(-image.height // factor), -(-image.width // factor))
    pixels = np.empty(size if stays_grey else (*size, 3), np.uint8)
    for left, top, piece in _pieces(image, factor):
        part = np.asarray(convert(piece))
        if part.shape[:2] == size:
            return part
        x, y = left // factor, top // factor
        pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
    return pixels


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts an image; Pillow would copy one that has the mode."""
    return image if image.mode == mode else image.convert(mode)


def _pieces(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, int, Image.Image]]:
    """Cuts an image into pieces that begin at multiples of the factor; a small one is its own.

    They have all columns, but of pictures that are so wide that a few rows are most of them.
    """
    columns = min(image.width, max(1, PIECE_PIXELS // factor**2) * factor)
    rows = max(1, PIECE_PIXELS // (factor * columns)) * factor
    if columns == image.width and rows >= image.height:
        yield 0, 0, image
        return
    for top in range(0, image.height, rows):
        for left in range(0, image.width, columns):
            right, bottom = min(left + columns, image.width), min(top + rows, image.height)
            yield left, top, image.crop((left, top, right, bottom))


def _white(image: Image.Image) -> float:
    """Chooses the level of white of 16-bit and float grey.

    Of 16 bits as many count as the picture uses: cameras and scanners store 8, 10 or 12 bits in
    16, and would look black. Floats count to 1, or to 255 where one is over 1.
    """
    values = (np.asarray(piece) for _, _, piece in _pieces(image))
    ends = [(piece.min(), piece.max()) for piece in values]
    low, high = float(np.min(ends)), float(np.max(ends))
    if image.mode == "F":
        if not (low >= 0 and high <= 255):
            raise UnsupportedMediaType(
                f"float grey from {low:g} to {high:g} is not supported; only 0 to 1 or 0 to 255 is"
            )
        return 1.0 if high <= 1 else 255.0
    return next(white for white in (255.0, 1023.0, 4095.0, 65535.0) if high <= white)


def _to_srgb(mode: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Makes a conversion through the file's profile; None where it has no usable or needed one."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
