"""What a load test sends: image files, or a drawn face where there are none."""

import io
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Files of a folder that are taken for images."""


@dataclass(frozen=True)
class Payload:
    """The body of a request, and its media type."""

    data: bytes
    content_type: str


def read_images(folder: Path) -> tuple[Payload, ...]:
    """Reads all image files below a folder.

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
    """Draws a smiling face of 48x48 grey pixels: like those of FER2013, it needs no detector."""
    canvas = Image.new("L", (48, 48), 60)
    draw = ImageDraw.Draw(canvas)
    draw.ellipse((7, 1, 41, 46), fill=176)
    draw.ellipse((14, 17, 21, 22), fill=40)
    draw.ellipse((27, 17, 34, 22), fill=40)
    draw.line((24, 21, 22, 29, 25, 29), fill=120)
    draw.chord((15, 26, 33, 39), 20, 160, fill=236)
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return Payload(file.getvalue(), "image/png")
