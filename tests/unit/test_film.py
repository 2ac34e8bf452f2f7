"""A stream that looks for faces near those of the frame before sees what every-frame sees."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from ferserve.crops import crop_face
from ferserve.faces import load_face_detector
from ferserve.models import load_model
from ferserve.schemas import Box, FaceEmotion
from ferserve.tracking import FaceTracker, Track, overlap
from numpy.typing import NDArray
from PIL import Image, ImageOps

MODELS = Path("models")
RATE = 10
FRAMES = 44
GONE, ENTERED = 12, 14
"""When the first person has left, and another one comes in."""

BACK = Image.fromarray(skimage.data.coffee()).resize((640, 480))
PORTRAIT = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 350, 290))
FACE = (81, 58, 88, 120)
PEOPLE = {
    "who leaves": PORTRAIT,
    "behind": ImageOps.mirror(PORTRAIT),
    "in front": ImageOps.mirror(PORTRAIT).point(lambda value: 0.8 * value),
}


@dataclass
class Seen:
    """What was seen of a person in a frame."""

    box: Box
    track: Track
    emotions: NDArray[np.float32]


def places(frame: int) -> dict[str, tuple[int, int, float]]:
    """Left, top and size of the people in a frame, those in front last."""
    there = {"behind": (330 - frame, 60, 0.8)}
    if frame < GONE:
        there["who leaves"] = (-20 * frame, 150, 1.0)
    if frame >= ENTERED:
        there["in front"] = (640 - 30 * (frame - ENTERED), 90, 1.1)
    return there


def picture(frame: int) -> NDArray[np.uint8]:
    image = BACK.copy()
    for name, (x, y, size) in places(frame).items():
        image.paste(ImageOps.scale(PEOPLE[name], size), (x, y))
    return np.asarray(image)


def face_of(name: str, frame: int) -> Box | None:
    if name not in places(frame):
        return None
    x, y, size = places(frame)[name]
    left, top, width, height = (round(size * value) for value in FACE)
    return Box(x=x + left, y=y + top, width=width, height=height)


@pytest.fixture(scope="module")
def films() -> dict[str, list[dict[str, Seen]]]:
    """What is seen of each person, frame by frame: looking near them, and everywhere."""
    detector, model = load_face_detector(MODELS / "face_detector.onnx"), load_model(MODELS, "light")

    def watch(*, follow: bool) -> list[dict[str, Seen]]:
        tracker, film = FaceTracker(0.5), []
        for frame in range(FRAMES):
            pixels, at = picture(frame), frame / RATE
            found = detector.detect(pixels, near=tracker.near(at) if follow else [])
            rated = model.predict(np.stack([crop_face(pixels, face.box) for face in found]))
            faces = [
                FaceEmotion.model_construct(box=face.box, emotions={"happy": 1.0}) for face in found
            ]
            film.append({})
            for face, track, row in zip(faces, tracker.update(faces, at), rated, strict=True):
                overlaps = {
                    name: overlap(box, face.box) for name in PEOPLE if (box := face_of(name, frame))
                }
                film[-1][max(overlaps, key=overlaps.__getitem__)] = Seen(face.box, track, row)
        return film

    return {"near": watch(follow=True), "everywhere": watch(follow=False)}


def pairs(films: dict[str, list[dict[str, Seen]]]) -> list[tuple[Seen, Seen]]:
    """What both saw of the same person in the same frame."""
    both = zip(films["near"], films["everywhere"], strict=True)
    return [(near[name], every[name]) for near, every in both for name in near.keys() & every]


def test_the_boxes_are_those_of_every_frame_detection(films):
    overlaps = [overlap(near.box, every.box) for near, every in pairs(films)]
    assert len(overlaps) > FRAMES
    assert np.mean(overlaps) >= 0.85


def test_so_are_the_emotions(films):
    changes = [np.abs(near.emotions - every.emotions).max() for near, every in pairs(films)]
    assert np.mean(changes) < 0.1


@pytest.mark.parametrize("way", ["near", "everywhere"])
def test_no_track_is_swapped(films, way):
    people = {(seen.track.number, name) for frame in films[way] for name, seen in frame.items()}
    assert len({number for number, _ in people}) == len(people)
    assert {name for _, name in people} == set(PEOPLE)


def test_a_face_that_enters_is_seen_within_a_second(films):
    first = {
        way: next(number for number, frame in enumerate(film) if "in front" in frame)
        for way, film in films.items()
    }
    assert 0 <= first["near"] - first["everywhere"] < RATE


def test_a_face_that_has_left_is_not_seen(films):
    assert not any("who leaves" in frame for frame in films["near"][GONE:])


def test_whom_one_passes_by_is_seen_again_within_a_second(films):
    hidden = [number for number, frame in enumerate(films["everywhere"]) if "behind" not in frame]
    assert hidden
    assert "behind" in films["near"][max(hidden) + RATE]
