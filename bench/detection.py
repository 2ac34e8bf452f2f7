"""What finding faces costs and finds, at full size and as served, where the faces are known.

Portraits are put on photos and textures: the astronaut's, faces of Labeled Faces in the Wild that
scikit-image brings, and those of FER2013's PrivateTest where ``--data`` names it. Both ways see
each picture in turn, on one thread each; their cost is processor time.

    python bench/detection.py --data fer2013.zip
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

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
BANDS = ((16, 24), (24, 32), (32, 48), (48, 96), (96, 200), (200, 401))
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
    """What a way did in all pictures; each face has its height and its best overlap, or 0."""

    heights: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    false: int = 0
    seconds: list[float] = field(default_factory=list)

    def look(self, scene: Scene, way: Way) -> None:
        """Compares what is found in a picture with what is there; a face is found once."""
        begun = time.process_time()
        corners = way(scene.pixels)
        self.seconds.append(time.process_time() - begun)
        free = np.full(len(corners), fill_value=True)
        for box in scene.boxes:
            overlaps = np.where(free, faces._overlaps(box, corners), 0)
            best = overlaps.max(initial=0)
            self.heights.append(box[3] - box[1])
            self.overlaps.append(best if best >= FOUND_OVERLAP else 0)
            if self.overlaps[-1]:
                free[overlaps.argmax()] = False
        self.false += int(free.sum())

    def summary(self) -> dict[str, Any]:
        """Returns the figures."""
        heights, overlaps = np.array(self.heights), np.array(self.overlaps)

        def recall(low: float, high: float = LARGEST + 1) -> float:
            return round(float((overlaps[(heights >= low) & (heights < high)] > 0).mean()), 3)

        milliseconds = 1000 * np.array(self.seconds)
        return {
            "recall": {f"{low}-{high - high % 8}": recall(low, high) for low, high in BANDS},
            f"recall_from_{COUNTED_FROM}_px": recall(COUNTED_FROM),
            "false": self.false,
            "mean_overlap": round(float(overlaps[overlaps > 0].mean()), 3),
            "ms": round(float(milliseconds.mean()), 1),
            "ms_p95": round(float(np.percentile(milliseconds, 95)), 1),
        }


def main() -> None:
    """Measures and writes the result."""
    parser = command_line(__doc__, pictures=150, without_faces=60)
    parser.add_argument("--data", type=Path, help="FER2013")
    options = parser.parse_args()
    detector = load_face_detector(installed_models() / "face_detector.onnx")
    ways = {"full size": partial(at_full_size, detector), "service": partial(as_served, detector)}
    tallies = {name: Tally() for name in ways}
    pictures = 0
    for scene in compose(portraits(options.data), options.pictures, options.without_faces):
        pictures += 1
        for name, way in ways.items():
            tallies[name].look(scene, way)
    found = {name: tally.summary() for name, tally in tallies.items()}
    before, now = found.values()
    recall = f"recall_from_{COUNTED_FROM}_px"
    met = {
        f"at most {ALLOWED_LOSS:.0%} of the faces from {COUNTED_FROM} px lost": now[recall]
        >= before[recall] - ALLOWED_LOSS,
        "no more false faces": now["false"] <= before["false"],
        "cheaper": now["ms"] < before["ms"],
    }
    about = {"pictures": pictures, "faces": len(tallies["service"].heights)}
    write_result("detection", about | {"ways": found, "met": met}, options.out)


def at_full_size(detector: FaceDetector, pixels: Pixels) -> Corners:
    """As up to commit f45cf26: at full size, and where nothing is found at 160 pixels."""
    longer = max(pixels.shape[:2])
    found = detector.look(pixels, min(1, 640 / longer), 0.5)
    if not len(found):
        found = detector.look(pixels, 160 / longer, 0.5)
    return found[:, :4]


def as_served(detector: FaceDetector, pixels: Pixels) -> Corners:
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


def compose(groups: list[list[Portrait]], pictures: int, without_faces: int) -> Iterator[Scene]:
    """Makes pictures of one to thirty faces, and some without."""
    random = np.random.default_rng(0)
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
