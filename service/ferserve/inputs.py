"""Images as callers have them → the bytes of an image file."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImageInput = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A path, a file's bytes, a Pillow image, or pixels uint8 ``[height, width]`` (grey) or
``[height, width, 3]`` (RGB)."""

OTHER_MODES = {"YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBX": "RGB", "PA": "RGBA",
               "RGBa": "RGBA", "La": "LA", "I": "I;16"}  # fmt: skip
"""Pillow's modes that no file keeps, and those that show the same."""


MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Largest message of a stream: a JPEG of a 4K camera has two megabytes or three."""


def as_bytes(image: ImageInput, most: float = math.inf) -> bytes:
    """Returns an image file's bytes; pixels become a file that loses nothing, or a JPEG.

    The latter where it would have more than ``most`` bytes.

    Raises OSError of a file, ValueError of an array of other things, TypeError of what is neither.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        grey, rgb = image.ndim == 2, image.ndim == 3 and image.shape[-1] == 3
        if image.dtype != np.uint8 or not (grey or rgb):
            raise ValueError(
                "pixels are uint8 [height, width] or [height, width, 3], not "
                f"{image.dtype} {list(image.shape)}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        kind = type(image).__name__
        raise TypeError(f"{kind} is not an image: give a path, bytes, Pillow or NumPy")
    if image.mode in OTHER_MODES:
        image = image.convert(OTHER_MODES[image.mode])
    file = io.BytesIO()
    keeping = "TIFF" if image.mode in ("CMYK", "F") else "PNG"  # which has no such
    # The file does not carry the orientation.
    image = ImageOps.exif_transpose(image)
    image.save(file, keeping, compress_level=1)
    if file.tell() > most and image.mode in ("L", "RGB"):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
    return file.getvalue()
