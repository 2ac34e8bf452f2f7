"""What is sent: image files, or a drawn face where there are none."""

import io
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Files of a folder that are taken for images."""

FACE_SIDE = 48
DRAWN_SIDE = 4 * FACE_SIDE
"""Drawn larger and scaled down, so that edges are smooth as those of a photo."""


@dataclass(frozen=True)
class Payload:
    """The body of a request.

    Attributes:
        data: Its bytes.
        content_type: Their media type.
    """

    data: bytes
    content_type: str


def read_images(folder: Path) -> tuple[Payload, ...]:
    """Reads all image files below a folder.

    Each is sent as often as any other: three copies of a picture are sent three times as often.

    Raises:
        ValueError: There is none.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise ValueError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return tuple(
        Payload(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        for path in files
    )


def sample_face() -> Payload:
    """Draws a smiling face of 48x48 grey pixels: as FER2013's, it needs no detector."""
    canvas = Image.new("L", (DRAWN_SIDE, DRAWN_SIDE), 60)
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((28, 6, 164, 186), fill=176)
    for left in (56, 108):
        draw.ellipse((left, 70, left + 28, 86), fill=232)
        draw.ellipse((left + 8, 71, left + 20, 85), fill=40)
        draw.arc((left - 6, 50, left + 34, 78), 200, 340, fill=70, width=6)
    draw.line((96, 84, 90, 116, 102, 116), fill=120, width=5)
    draw.chord((62, 104, 130, 156), 20, 160, fill=236, outline=90, width=5)
    file = io.BytesIO()
    canvas.resize((FACE_SIDE, FACE_SIDE), Image.Resampling.LANCZOS).save(file, "PNG")
    return Payload(file.getvalue(), "image/png")
