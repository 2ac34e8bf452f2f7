"""An image file → its faces, cut out as the networks want them. Blocks; keeps no state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ferserve.crops import crop_face, whole_face
from ferserve.faces import FaceDetector
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.images import DecodedImage, decode_image, peek_size
from ferserve.pool import DecodeMemory, Share
from ferserve.schemas import Box, EmotionOptions, ImageInfo, Point

WHOLE_FACE_SIDE = 64
"""``detect=auto`` takes an image of at most this longer side as one face already, in pixels."""

DRAFT = 2
"""Large images are shrunk to this multiple of the detector's side: a face it can just find is then
cut out of twice as many pixels."""

QUICK_BYTES = 8 * 1024
"""Largest file that may be quick: one of 48x48 pixels has 2 kB, and what can be hidden in so few
bytes holds up nobody for long."""

FaceImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face in the image; ``confidence`` and ``landmarks`` are None where no detector ran.

    Attributes:
        crop: What a network will see of it, uint8 ``[48, 48]``.
        side: Its longer side in the pixels that were decoded, of which the crop was made.
        clipped: Whether the face or its crop reaches over the image's border.
    """

    crop: FaceImage
    side: int
    box: Box
    confidence: float | None = None
    landmarks: list[Point] | None = None
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """What inference needs of an image, not its pixels; and the seconds that each stage took."""

    image: ImageInfo
    faces: list[FoundFace]
    waited: float
    decode: float
    detect: float

    @property
    def detector_ran(self) -> bool:
        """Whether faces were looked for; if not, the whole image is one."""
        return all(face.confidence is not None for face in self.faces)


class Preparer:
    """Decodes images and finds their faces; safe to share between threads."""

    def __init__(self, detector: FaceDetector, max_pixels: int, memory: DecodeMemory) -> None:
        self._detector = detector
        self._memory = memory
        self._max_pixels = max_pixels
        self._draft_side = DRAFT * detector.max_side

    def warm_up(self) -> None:
        """Runs the detector once, so that no request pays for its first run."""
        self._detector.detect(np.zeros((FACE_SIDE, FACE_SIDE, 3), np.uint8))

    def is_quick(self, data: bytes, options: EmotionOptions) -> bool:
        """Whether a thread would cost more than the work; False, too, for what is damaged."""
        if len(data) > QUICK_BYTES or options.detect == "true":
            return False
        size = peek_size(data)
        return size is not None and max(size) <= WHOLE_FACE_SIDE

    def prepare(
        self,
        data: bytes,
        options: EmotionOptions,
        max_faces: int,
        submitted: float,
        near: Sequence[Box] = (),
        share: Share | None = None,
        deadline: float = math.inf,
    ) -> Prepared:
        """Decodes one image and cuts out its faces, largest first.

        ``submitted`` is when the work was handed over, on the clock of ``time.monotonic``. Refuses
        as ``decode_image``, and where other images take the memory or the share for decoding, for
        which it waits until ``deadline``.
        """
        begun = monotonic()
        if share:
            share.take(0)  # before the file is looked at
        reserve = partial(self._memory.reserve, share=share, deadline=deadline)
        image = decode_image(data, self._max_pixels, self._draft_side, reserve)
        decoded = monotonic()
        is_small = max(image.width, image.height) <= WHOLE_FACE_SIDE
        if options.detect == "false" or (options.detect == "auto" and is_small):
            box = Box(x=0, y=0, width=image.width, height=image.height)
            found = [FoundFace(whole_face(image.pixels), max(image.pixels.shape[:2]), box)]
        else:
            found = self._find_faces(image, options.min_face_confidence, max_faces, near)
        return Prepared(
            image=ImageInfo.model_validate(image, from_attributes=True),
            faces=found,
            waited=begun - submitted,
            decode=decoded - begun,
            detect=monotonic() - decoded,
        )

    def _find_faces(
        self, image: DecodedImage, min_confidence: float, max_faces: int, near: Sequence[Box]
    ) -> list[FoundFace]:
        rows, columns = image.pixels.shape[:2]
        across, down = image.width / columns, image.height / rows  # 1, or what was not decoded
        places = [_scaled(box, 1 / across, 1 / down) for box in near]
        return [
            FoundFace(
                crop=crop_face(image.pixels, face.box),
                side=max(face.box.width, face.box.height),
                box=_scaled(face.box, across, down),
                confidence=face.confidence,
                landmarks=[Point(x=across * x, y=down * y) for x, y in face.landmarks.tolist()],
                clipped=face.clipped,
            )
            for face in self._detector.detect(image.pixels, min_confidence, max_faces, places)
        ]


def _scaled(box: Box, across: float, down: float) -> Box:
    x, y = round(across * box.x), round(down * box.y)
    right, bottom = round(across * (box.x + box.width)), round(down * (box.y + box.height))
    return Box(x=x, y=y, width=right - x, height=bottom - y)
