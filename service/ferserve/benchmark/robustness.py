"""The robustness card: accuracy on faces that were cropped, lit or compressed otherwise.

Each change takes and returns a grey picture of 48x48 pixels. What comes in from outside the picture
repeats its edge, as the service's own crops do.
"""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageFilter
from PIL.ImageEnhance import Brightness

from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.fer2013.reader import Split
from ferserve.models import Model
from ferserve.sessions import CPU
from ferserve.settings import usable_cpus

MARGIN = 16
"""Pixels added on each side: a corner rotated by 15 degrees comes from 6 pixels outside."""

BATCH = 32

Picture = Image.Image
SIZE = (FACE_SIDE, FACE_SIDE)
BOX, BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def recrop(face: Picture, pixels: float) -> Picture:
    """Moves every side of the crop outwards by ``pixels``, inwards where negative."""
    low, high = MARGIN - pixels, MARGIN + FACE_SIDE + pixels
    return _with_margin(face).resize(SIZE, BICUBIC, box=(low, low, high, high))


def rotate(face: Picture, degrees: float) -> Picture:
    """Turns the face counter-clockwise."""
    end = MARGIN + FACE_SIDE
    return _with_margin(face).rotate(degrees, BICUBIC).crop((MARGIN, MARGIN, end, end))


def jpeg(face: Picture, quality: int) -> Picture:
    """Sends the face through JPEG."""
    file = io.BytesIO()
    face.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _with_margin(face: Picture) -> Picture:
    return Image.fromarray(np.pad(np.asarray(face), MARGIN, mode="edge"))


PERTURBATIONS: dict[str, Callable[[Picture], Picture]] = {
    "original": lambda face: face,
    "crop 4 px tighter on each side": lambda face: recrop(face, -4),
    "crop 4 px wider on each side": lambda face: recrop(face, 4),
    "crop 8 % smaller": lambda face: recrop(face, -0.04 * FACE_SIDE),
    "crop 8 % larger": lambda face: recrop(face, 0.04 * FACE_SIDE),
    "rotated by -15°": lambda face: rotate(face, -15),
    "rotated by +15°": lambda face: rotate(face, 15),
    "blurred, σ = 1 px": lambda face: face.filter(ImageFilter.GaussianBlur(1)),
    "40 % darker": lambda face: Brightness(face).enhance(0.6),
    "40 % brighter": lambda face: Brightness(face).enhance(1.4),
    "JPEG, quality 20": lambda face: jpeg(face, 20),
    "shrunk to 24 px and enlarged": lambda face: face.resize((24, 24), BOX).resize(SIZE, BICUBIC),
}
"""The conditions of the card, the unchanged faces first."""

INTRODUCTION = """\
# Robustness

Accuracy, %, on all FER2013 test images, changed to imitate other crops, cameras and light, with the
difference in points: against the labels, or against people's majority (FER+) where there is one.
No model was trained on these pictures. Pixels from outside a picture repeat its edge, as
in the service's own crops. `make robustness MODEL="crowd light"` makes this page.
"""


def measure(model: Model, faces: Split, advance: Callable[[int], object]) -> dict[str, float]:
    """Returns a model's accuracy, 0..1, under every condition.

    Args:
        model: Takes batches of 32.
        faces: Unchanged.
        advance: Called with the number of faces done since its last call; by several threads.
    """
    column = np.array([model.card.labels.index(emotion) for emotion in EMOTIONS])

    def right(change: Callable[[Picture], Picture], start: int) -> int:
        batch = slice(start, start + BATCH)
        changed = np.stack(
            [np.asarray(change(Image.fromarray(face))) for face in faces.faces[batch]]
        )
        advance(len(changed))
        return int(np.sum(model.predict(changed).argmax(axis=1) == column[faces.labels[batch]]))

    starts = range(0, len(faces), BATCH)
    with ThreadPoolExecutor(usable_cpus() if model.provider == CPU else 1) as pool:
        return {
            condition: sum(pool.map(right, [change] * len(starts), starts)) / len(faces)
            for condition, change in PERTURBATIONS.items()
        }


def page(cards: Iterable[ModelCard]) -> str:
    """Returns the robustness card in Markdown, a column for each model that was measured."""
    against = {"FER2013 labels": "labels", "FER+ votes": "majority"}
    measured = {
        f"{card.name} {card.version}, {against[card.answers]}": card.robustness
        for card in cards
        if card.robustness
    }
    lines = [f"| | {' | '.join(measured)} |", "|---|" + "---:|" * len(measured)]
    for condition in PERTURBATIONS:
        cells = []
        for shares in measured.values():
            change = 100 * (shares[condition] - shares["original"])
            cells.append(f"{100 * shares[condition]:.2f}" + (f" ({change:+.1f})" if change else ""))
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join([INTRODUCTION, *lines, ""])
