"""Photos: how they are decoded, and at what size faces are looked for."""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skimage.data
from ferserve.bundle import ModelBundle, load_bundle
from ferserve.faces import Box, FaceDetector, crop_face, load_face_detector
from ferserve.images import decode_image
from ferserve.preparation import DRAFT
from ferserve.settings import Settings, installed_models
from load import photo_640
from numpy.typing import NDArray
from PIL import Image
from tuning_measuring import Choice, Way, in_threads

WIDTH, HEIGHT = 4000, 3000
TILE = 1000
SIDES = (320, 480, 640)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """What the service says of a photo.

    Attributes:
        boxes: Of the faces, in the whole photo's pixels.
        scores: float32 ``[faces, 7]``.
    """

    boxes: list[Box]
    scores: NDArray[np.float32]


def photos() -> dict[str, bytes]:
    """Returns JPEG files by name: the astronaut in three sizes."""
    return {
        "640×480, 1 face": photo_640(),
        "12 megapixels, 1 large face": _jpeg(_enlarged(WIDTH).crop((0, 0, WIDTH, HEIGHT))),
        "12 megapixels, 12 small faces": _jpeg(_tiled()),
    }


def decoding() -> Iterator[Choice]:
    """All pixels of a JPEG, or the fewer that Pillow's draft mode gives for less work.

    The draft's longer side stays at least the detector's, or twice that, so that only the crop is
    taken from fewer pixels.
    """
    settings = Settings()
    bundle = load_bundle(installed_models(), "custom_cnn", provider="cpu")
    detector = _detector(settings.detect_max_side)

    def all_pixels(data: bytes) -> Pixels:
        return decode_image(data, settings.max_pixels).rgb

    def as_served(data: bytes) -> Pixels:
        return decode_image(data, settings.max_pixels, DRAFT * settings.detect_max_side).rgb

    def smallest(data: bytes) -> Pixels:
        return decode_image(data, settings.max_pixels, settings.detect_max_side).rgb

    served = f"draft, {DRAFT} × detector"
    ways = {"all pixels": all_pixels, served: as_served, "draft, 1 × detector": smallest}
    for name, data in photos().items():
        whole = all_pixels(data)
        expected = look(whole, whole.shape, detector, bundle)
        columns = {}
        for title, decode in ways.items():
            rgb = decode(data)
            found = look(rgb, whole.shape, detector, bundle)
            size = {"pixels": f"{rgb.shape[1]}×{rgb.shape[0]}"}
            columns[title] = size | differences(expected, found)
        yield Choice(
            f"Decoding a JPEG of {name}",
            "photo",
            [Way(title, in_threads(_counting(decode, data))) for title, decode in ways.items()],
            served,
        )
        yield Choice(
            f"Decoding a JPEG of {name}, finding and cutting out its faces",
            "photo",
            [
                Way(title, in_threads(_counting(_cutting(decode, detector), data)), columns[title])
                for title, decode in ways.items()
            ],
            served,
            remark="Against the answer from all pixels: how many faces, the least overlap of a "
            "box, the largest change of a score.",
        )


def detection() -> Iterator[Choice]:
    """The longer side that photos are scaled down to before faces are looked for."""
    served = Settings().detect_max_side
    bundle = load_bundle(installed_models(), "custom_cnn", provider="cpu")
    for name, data in photos().items():
        rgb = decode_image(data, Settings().max_pixels).rgb
        expected = look(rgb, rgb.shape, _detector(max(SIDES)), bundle)
        ways = []
        for side in sorted({*SIDES, served}):
            detector = _detector(side)
            columns = differences(expected, look(rgb, rgb.shape, detector, bundle))
            ways.append(Way(f"{side}", in_threads(_counting(detector.detect, rgb)), columns))
        yield Choice(
            f"Finding the faces of {name}: longer side",
            "photo",
            ways,
            str(served),
            remark=f"Against the answer at {max(SIDES)}: how many faces, the least overlap of a "
            "box, the largest change of a score.",
        )


def look(rgb: Pixels, shape: Sequence[int], detector: FaceDetector, bundle: ModelBundle) -> Seen:
    """Finds and rates faces; boxes are scaled to a photo of ``shape`` (rows, columns)."""
    faces = detector.detect(rgb)
    down, across = (whole / part for whole, part in zip(shape[:2], rgb.shape[:2], strict=True))
    boxes = [
        Box(
            *(round(across * face.box.x), round(down * face.box.y)),
            *(round(across * face.box.width), round(down * face.box.height)),
        )
        for face in faces
    ]
    crops = [crop_face(rgb, face.box) for face in faces]
    scores = bundle.predict(np.stack(crops)) if crops else np.empty((0, 7), np.float32)
    return Seen(boxes, scores)


def differences(expected: Seen, found: Seen) -> dict[str, Any]:
    """Compares two answers; a face is the same where the boxes overlap best."""
    overlaps, changes = [], []
    for box, scores in zip(expected.boxes, expected.scores, strict=True):
        shares = [overlap(box, other) for other in found.boxes]
        if not shares or max(shares) < 0.3:
            continue
        overlaps.append(max(shares))
        changes.append(float(np.abs(found.scores[int(np.argmax(shares))] - scores).max()))
    return {
        "faces": f"{len(overlaps)} of {len(expected.boxes)}",
        "IoU": min(overlaps, default=None),
        "score": max(changes, default=None),
    }


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0) * max(height, 0)
    return common / (one.width * one.height + other.width * other.height - common)


def _cutting(
    decode: Callable[[bytes], Pixels], detector: FaceDetector
) -> Callable[[bytes], list[Pixels]]:
    def cut(data: bytes) -> list[Pixels]:
        rgb = decode(data)
        return [crop_face(rgb, face.box) for face in detector.detect(rgb)]

    return cut


def _counting(work: Callable[[Any], object], what: bytes | Pixels) -> Callable[[], int]:
    def once() -> int:
        work(what)
        return 1

    return once


def _detector(side: int) -> FaceDetector:
    return load_face_detector(installed_models() / "face_detector.onnx", side)


def _enlarged(side: int) -> Image.Image:
    portrait = Image.fromarray(skimage.data.astronaut())
    return portrait.resize((side, side), Image.Resampling.BICUBIC)


def _tiled() -> Image.Image:
    canvas = Image.new("RGB", (WIDTH, HEIGHT))
    for corner in itertools.product(range(0, WIDTH, TILE), range(0, HEIGHT, TILE)):
        canvas.paste(_enlarged(TILE), corner)
    return canvas


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
