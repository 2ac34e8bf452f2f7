"""What real life does to a face picture, on 48x48 faces.

Each function takes and returns one face, uint8 ``[48, 48]``. What comes in from outside the
picture repeats its edge, as the service's own crops do.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ferserve.fer2013.labels import FACE_SIDE

Face = NDArray[np.uint8]

MARGIN = 16
"""Pixels added on each side: a corner rotated by 15 degrees comes from 6 pixels outside."""


def recrop(face: Face, pixels: float) -> Face:
    """Moves every side of the crop outwards by ``pixels``, inwards where negative."""
    image = Image.fromarray(np.pad(face, MARGIN, mode="edge"))
    low, high = MARGIN - pixels, MARGIN + FACE_SIDE + pixels
    size = (FACE_SIDE, FACE_SIDE)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=(low, low, high, high)))


def scale_crop(face: Face, share: float) -> Face:
    """Makes the crop's side larger by a share of itself, smaller where negative."""
    return recrop(face, share * FACE_SIDE / 2)


def rotate(face: Face, degrees: float) -> Face:
    """Turns the face counter-clockwise."""
    image = Image.fromarray(np.pad(face, MARGIN, mode="edge"))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    inside = (MARGIN, MARGIN, MARGIN + FACE_SIDE, MARGIN + FACE_SIDE)
    return np.asarray(turned.crop(inside))


def blur(face: Face, sigma: float) -> Face:
    """Blurs with a Gaussian of this standard deviation, in pixels."""
    return np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(sigma)))


def brighten(face: Face, share: float) -> Face:
    """Multiplies the grey values by ``1 + share``."""
    brighter: Face = np.clip(np.rint(face * (1 + share)), 0, 255).astype(np.uint8)
    return brighter


def jpeg(face: Face, quality: int) -> Face:
    """Sends the face through JPEG."""
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shrink(face: Face, side: int) -> Face:
    """Shrinks the face to ``side`` pixels and enlarges it again."""
    small = Image.fromarray(face).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BICUBIC))


PERTURBATIONS: dict[str, Callable[[Face], Face]] = {
    "original": lambda face: face,
    "crop 4 px tighter on each side": lambda face: recrop(face, -4),
    "crop 4 px wider on each side": lambda face: recrop(face, 4),
    "crop 8 % smaller": lambda face: scale_crop(face, -0.08),
    "crop 8 % larger": lambda face: scale_crop(face, 0.08),
    "rotated by -15°": lambda face: rotate(face, -15),
    "rotated by +15°": lambda face: rotate(face, 15),
    "blurred, σ = 1 px": lambda face: blur(face, 1.0),
    "40 % darker": lambda face: brighten(face, -0.4),
    "40 % brighter": lambda face: brighten(face, 0.4),
    "JPEG, quality 20": lambda face: jpeg(face, 20),
    "shrunk to 24 px and enlarged": lambda face: shrink(face, 24),
}
"""The conditions of the robustness card, the unchanged faces first."""
