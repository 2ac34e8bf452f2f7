"""Faces drawn into a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ferserve.schemas import FaceEmotion, TrackedFace

COLOURS = {
    "angry": "#d62728",
    "disgust": "#8c6d31",
    "fear": "#9467bd",
    "happy": "#2ca02c",
    "sad": "#1f77b4",
    "surprise": "#ff7f0e",
    "neutral": "#7f7f7f",
}
"""Of boxes, by emotion; all bear white text."""


def draw_faces(rgb: NDArray[np.uint8], faces: Sequence[FaceEmotion]) -> Image.Image:
    """Returns the picture with a box and a label for each face.

    Args:
        rgb: uint8 ``[height, width, 3]``; stays as it is.
        faces: Those of a video are labelled with their track and their smoothed emotions.
    """
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    font = ImageFont.load_default(size=max(12, 6 * line))
    for face in reversed(faces):  # the largest on top
        name, emotions = "", face.emotions
        if isinstance(face, TrackedFace):
            name, emotions = f"{face.track}: ", face.emotions_smoothed
        emotion = max(emotions, key=emotions.__getitem__)
        text = f"{name}{emotion} {emotions[emotion]:.0%}"
        colour = COLOURS.get(emotion, COLOURS["neutral"])
        box = face.box
        corners = (box.x, box.y, box.x + box.width - 1, box.y + box.height - 1)
        draw.rectangle(corners, outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * line, bottom - top + 2 * line
        # Above the face, but inside the picture.
        x = max(0, min(box.x, picture.width - width))
        y = max(0, box.y - height)
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        draw.text((x + line - left, y + line - top), text, fill="white", font=font)
    return picture
