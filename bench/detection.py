"""What ways of finding faces cost and find, on pictures whose faces are known.

Portraits are put on photos and textures: the astronaut's, faces of Labeled Faces in the Wild that
scikit-image brings, and those of FER2013's PrivateTest where ``--data`` names it. All ways see each
picture in turn, on one thread each; their cost is processor time.

    python bench/detection.py --data fer2013.zip
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import skimage.data
from ferserve import faces
from ferserve.faces import FaceDetector, load_face_detector
from ferserve.fer2013.reader import read_fer2013
from ferserve.settings import installed_models
from load import command_line, write_result
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float32]
Way = Callable[[Pixels], Corners]

GROUNDS = (
    "brick", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "horse",
    "hubble_deep_field", "immunohistochemistry", "logo", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
SIZES = ((512, 512), (640, 480), (480, 640), (1280, 720), (320, 240))
FACES = (1, 1, 1, 2, 2, 3, 5, 8, 15, 30)
SMALLEST, LARGEST, MOST_ENLARGED = 16, 400, 4.5
BANDS = (16, 24, 32, 48, 96, 200, 401)
COUNTED_FROM = 24
ALLOWED_LOSS = 0.01
FOUND_OVERLAP = 0.3


@dataclass(frozen=True)
class Scene:
    """A picture and the boxes of its faces, float32 ``[n, 4]``: left, top, right, bottom."""

    pixels: Pixels
    boxes: Corners


@dataclass
class Tally:
    """What a way did in all pictures: the heights of all faces, which it found, and its cost."""

    heights: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    false: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, scene: Scene, corners: Corners, seconds: float) -> None:
        """Compares what was found in a picture with what is there; a face is found once."""
        self.seconds.append(seconds)
        free = np.full(len(corners), fill_value=True)
        for box in scene.boxes:
            overlaps = np.where(free, faces._overlaps(box, corners), 0)
            best = overlaps.max(initial=0)
            self.heights.append(box[3] - box[1])
            self.found.append(best >= FOUND_OVERLAP)
            if self.found[-1]:
                free[overlaps.argmax()] = False
                self.overlaps.append(best)
        self.false += int(free.sum())

    def summary(self, usual: "Tally") -> dict[str, Any]:
        """Returns the figures, with those of the usual way to compare with."""
        heights, found = np.array(self.heights), np.array(self.found)
        bands = pairwise(BANDS)
        counted = heights >= COUNTED_FROM
        milliseconds = 1000 * np.array(self.seconds)
        return {
            "recall": {
                f"{low}-{high - high % 8}": round(
                    float(found[(heights >= low) & (heights < high)].mean()), 3
                )
                for low, high in bands
            },
            "recall_from_24_px": round(float(found[counted].mean()), 3),
            "lost_of_the_usual": int(np.sum(np.array(usual.found) & ~found & counted)),
            "false": self.false,
            "mean_overlap": round(float(np.mean(self.overlaps)), 3),
            "ms": round(float(milliseconds.mean()), 1),
            "ms_p95": round(float(np.percentile(milliseconds, 95)), 1),
            "share_of_the_usual_ms": round(sum(self.seconds) / sum(usual.seconds), 3),
        }


def main() -> None:
    """Measures and writes the result."""
    parser = command_line(__doc__, pictures=150, without_faces=60)
    parser.add_argument("--data", type=Path, help="FER2013")
    options = parser.parse_args()
    groups = portraits(options.data)
    scenes = list(compose(groups, options.pictures, options.without_faces, seed=0))
    ways = candidates()
    tallies = {name: Tally() for name in ways}
    for scene in scenes:
        for name, way in ways.items():
            begun = time.process_time()
            corners = way(scene.pixels)
            tallies[name].add(scene, corners, time.process_time() - begun)
    usual = tallies["full size"]
    result = {name: tally.summary(usual) for name, tally in tallies.items()}
    chosen, before = result["service"], result["full size"]
    met = {
        f"at most {ALLOWED_LOSS:.0%} of the faces from {COUNTED_FROM} px lost": chosen[
            "recall_from_24_px"
        ]
        >= before["recall_from_24_px"] - ALLOWED_LOSS,
        "no more false faces": chosen["false"] <= before["false"],
        "cheaper": chosen["ms"] < before["ms"],
    }
    about = {"pictures": len(scenes), "faces": len(usual.heights), "lone_photo_ms": lone(ways)}
    write_result("detection", about | {"ways": result, "met": met}, options.out)


def lone(ways: dict[str, Way], rounds: int = 15) -> dict[str, float]:
    """Returns each way's milliseconds for the astronaut, 512x512 pixels: the median."""
    photo = skimage.data.astronaut()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            way(photo)
            seconds[name].append(time.process_time() - begun)
    return {name: round(1000 * float(np.median(one)), 1) for name, one in seconds.items()}


def candidates() -> dict[str, Way]:
    """Returns the ways by name."""
    path = installed_models() / "face_detector.onnx"
    detector = load_face_detector(path)
    return {
        "full size": partial(in_one_size, detector, 640),
        "service": partial(as_the_service, detector, {}),
        "at most 480 px": partial(in_one_size, detector, 480),
        "at most 320 px": partial(in_one_size, detector, 320),
        "two passes: half, then full": partial(as_the_service, detector, {"MAX_CLOSER": 0}),
        "closer after 0.4": partial(as_the_service, detector, {"GLANCE": 0.4}),
        "closer after 0.33": partial(as_the_service, detector, {"GLANCE": 0.33}),
        "closer from 0.1": partial(as_the_service, detector, {"DOUBT": 0.1}),
        "closer at 96 px": partial(
            as_the_service, detector, {"CLOSER_SIDE": 96, "CLOSER_FACE": 48}
        ),
    }


def in_one_size(detector: FaceDetector, side: int, pixels: Pixels) -> Corners:
    """As up to commit f45cf26: at full size, and where nothing is found at 160 pixels."""
    longer = max(pixels.shape[:2])
    found = detector.look(pixels, min(1, side / longer), 0.5)
    if not len(found):
        found = detector.look(pixels, 160 / longer, 0.5)
    return found[:, :4]


def as_the_service(detector: FaceDetector, changed: dict[str, float], pixels: Pixels) -> Corners:
    """As the service does, with other constants."""
    with mock.patch.multiple(faces, **{"DOUBT": faces.DOUBT} | changed):
        return detector._search(pixels, 0.5)[:, :4]


Portrait = tuple[Image.Image, Corners]


def portraits(data: Path | None) -> list[list[Portrait]]:
    """Returns pictures of a face and its box, in groups that scenes draw from alike."""
    astronaut = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 350, 290))
    groups = [[(astronaut, np.array([81, 58, 169, 178], np.float32))]]
    small = np.rint(255 * skimage.data.lfw_subset()[:100]).astype(np.uint8)
    grey = [small, *([read_fer2013(data).private.faces] if data else [])]
    share = np.array([0.09, 0.043, 0.91, 0.983], np.float32)  # of FER2013's faces, the median
    return groups + [[(Image.fromarray(one), len(one) * share) for one in some] for some in grey]


def compose(
    groups: list[list[Portrait]], pictures: int, without_faces: int, seed: int
) -> Iterator[Scene]:
    """Makes pictures of one to thirty faces, and some without."""
    random = np.random.default_rng(seed)
    for number in range(pictures + without_faces):
        image = background(random, SIZES[random.integers(len(SIZES))])
        count = FACES[number % len(FACES)] if number < pictures else 0
        boxes = paste_faces(random, image, groups, count)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(60, 95)))
        yield Scene(np.asarray(Image.open(file)), boxes)


def background(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Cuts a part out of one of scikit-image's pictures."""
    pixels = getattr(skimage.data, GROUNDS[random.integers(len(GROUNDS))])()
    whole = Image.fromarray(pixels).convert("RGB")
    width = random.uniform(0.4, 1) * min(whole.width, whole.height * size[0] / size[1])
    height = width * size[1] / size[0]
    x, y = random.uniform(0, whole.width - width), random.uniform(0, whole.height - height)
    return whole.resize(size, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))


def paste_faces(
    random: np.random.Generator, image: Image.Image, groups: list[list[Portrait]], count: int
) -> Corners:
    """Puts up to ``count`` portraits beside each other into a picture; returns the boxes."""
    places, boxes = np.empty((0, 4), np.float32), []
    heights = sorted(SMALLEST * (LARGEST / SMALLEST) ** random.random(count), reverse=True)
    for height in np.repeat(heights, 10):  # ten tries for each
        if len(boxes) and height >= boxes[-1][3] - boxes[-1][1] - 1:
            continue
        group = groups[random.integers(len(groups))]
        portrait, box = group[random.integers(len(group))]
        zoom = height / (box[3] - box[1])
        width, tall = round(zoom * portrait.width), round(zoom * portrait.height)
        if zoom > MOST_ENLARGED or width > image.width or tall > image.height:
            continue
        x = int(random.integers(image.width - width + 1))
        y = int(random.integers(image.height - tall + 1))
        place = np.array([x, y, x + width, y + tall], np.float32)
        if faces._overlaps(place, places).max(initial=0) > 0:
            continue
        light = random.uniform(0.6, 1.2)
        pasted = portrait.convert("RGB").resize((width, tall), Image.Resampling.LANCZOS)
        mask, rim = Image.new("L", (width, tall)), max(1, round(0.03 * tall))
        mask.paste(255, (rim, rim, width - rim, tall - rim))
        mask = mask.filter(ImageFilter.GaussianBlur(rim / 2))
        image.paste(pasted.point(lambda value, light=light: value * light), (x, y), mask)
        places = np.concatenate([places, place[None]])
        boxes.append(zoom * box + np.array([x, y, x, y]))
    return np.array(boxes, np.float32).reshape(-1, 4)


if __name__ == "__main__":
    main()
