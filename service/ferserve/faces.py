"""Finds faces.

The detector is CenterFace (Xu, Yan, Yang, Luo: "CenterFace: Joint Face Detection and Alignment
Using Face as Point", 2020), a fully convolutional network that marks face centres on a heat map
of a quarter of the image's size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from ferserve.crops import crop_leaves
from ferserve.schemas import MIN_FACE_CONFIDENCE, Box
from ferserve.sessions import ModelError, Runtime, open_session

GLANCE = 0.5
"""Share of the full size at which an image is looked at first."""

LEAST_SIDE = 160
"""Longer side, in pixels, to which smaller images are enlarged: the network sees no face in 48."""

CLEAR_SIDE = 48
"""A face of this many pixels is located precisely enough at the first look."""

DOUBT = 0.05
"""Least score at the first look that is worth a closer one."""

MAX_CLOSER = 10
"""Beyond this many closer looks, one at the whole image in full size costs less."""

CLOSER_SIDE, CLOSER_FACE = 128, 64
"""A closer look shows this many pixels, half of which are the face."""

OUTPUTS = ("heatmap", "scale", "offset", "landmarks")
"""The network's outputs in the order ``_decode`` takes them."""

STRIDE = 4
"""Pixels of the network's input to one cell of its output."""

SIDE_MULTIPLE = 32
"""The network halves its input five times."""

MAX_OVERLAP = 0.3
"""Intersection over union above which two detections are one face (CenterFace's own value)."""

MAX_ENLARGED = 4.0
"""How much a closer look may enlarge, which bounds its size."""

MAX_CANDIDATES = 1000
"""Cells looked at in a heat map, best first: bounds the work when the threshold is near 0."""

PADDING = 128
"""Grey value beside an image whose sides are not multiples of 32."""


Found = NDArray[np.float32]
"""Detections ``[n, 15]`` in pixels: left, top, right, bottom, five landmarks (x, y), the score."""

SCORE = 14
"""Column of the score; those before it are pairs of (x, y)."""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face; its box is clipped to the image.

    Attributes:
        landmarks: float32 ``[5, 2]``, (x, y) in pixels, not clipped: the eye on the left of the
            picture, the eye on the right, the tip of the nose, the mouth's left and right corner.
        clipped: Whether the box or the square that ``crop_face`` cuts left the image: part of the
            face may be missing.
    """

    box: Box
    confidence: float
    landmarks: NDArray[np.float32]
    clipped: bool


class FaceDetector:
    """CenterFace around an ONNX Runtime session; may be used by many threads at once.

    Args:
        session: ``image`` float32 ``[1, 3, height, width]`` in, ``OUTPUTS`` out.
        max_side: Longer side of the full size, in pixels: larger images are shrunk to it.

    Raises:
        ModelError: The session's inputs or outputs are others.
    """

    def __init__(self, session: ort.InferenceSession, max_side: int) -> None:
        expected = {"image", *OUTPUTS}
        present = {value.name for value in [*session.get_inputs(), *session.get_outputs()]}
        if present != expected:
            raise ModelError(
                f"the face detector needs the tensors {sorted(expected)}, the file has"
                f" {sorted(present)}"
            )
        self._session = session
        # ONNX Runtime would keep the 70 MB that a look in full size takes.
        self._at_full_size = ort.RunOptions()
        self._at_full_size.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.max_side = max_side

    def detect(
        self,
        pixels: NDArray[np.uint8],
        min_confidence: float = MIN_FACE_CONFIDENCE,
        max_faces: int = 100,
        near: Sequence[Box] = (),
    ) -> list[Face]:
        """Finds the faces of an image, largest box first.

        Args:
            pixels: uint8 ``[height, width, 3]``, or grey ``[height, width]``.
            min_confidence: Least score, 0..1.
            max_faces: At most this many, the largest.
            near: Where faces were a moment ago. While each is found again, the rest of the image
                is not looked at.
        """
        known = np.array([(b.x, b.y, b.x + b.width, b.y + b.height) for b in near], np.float32)
        found = None
        if 0 < len(known) <= MAX_CLOSER:
            found = self._look_closer(pixels, known, min_confidence)
        if found is None or any(
            _overlaps(box, found).max(initial=0) <= MAX_OVERLAP for box in known
        ):
            found = self._search(pixels, min_confidence)
        faces = _as_faces(found, *pixels.shape[:2])
        faces.sort(key=lambda face: face.box.width * face.box.height, reverse=True)
        return faces[:max_faces]

    def _search(self, pixels: NDArray[np.uint8], min_confidence: float) -> Found:
        """Looks at the whole image, small; then closer where a face may be."""
        longer = max(pixels.shape[:2])
        full = min(1.0, self.max_side / longer)
        small = max(GLANCE * full, LEAST_SIDE / longer)
        seen = self.look(pixels, small, min(DOUBT, min_confidence))
        sides = np.max(seen[:, 2:4] - seen[:, :2], axis=1)
        clear = (seen[:, SCORE] >= min_confidence) & (sides * small >= CLEAR_SIDE)
        if np.sum(~clear) > MAX_CLOSER:
            return self.look(pixels, max(full, small), min_confidence, self._at_full_size)
        closer = self._look_closer(pixels, seen[~clear], min_confidence)
        return _best(np.concatenate([seen[clear], closer]))

    def _look_closer(self, pixels: NDArray[np.uint8], boxes: Found, min_confidence: float) -> Found:
        """Looks at the surroundings of boxes, each at the size the network sees best."""
        height, width = pixels.shape[:2]
        looks = [np.empty((0, SCORE + 1), np.float32)]
        for x1, y1, x2, y2 in boxes[:, :4].tolist():
            zoom = min(CLOSER_FACE / max(x2 - x1, y2 - y1, 1), MAX_ENLARGED)
            reach = CLOSER_SIDE / zoom / 2
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            left, top = max(0, round(x - reach)), max(0, round(y - reach))
            right, bottom = min(width, round(x + reach)), min(height, round(y + reach))
            if right <= left or bottom <= top:  # the image is another size than the one before
                continue
            found = self.look(pixels[top:bottom, left:right], zoom, min_confidence)
            found[:, :SCORE] += np.tile([left, top], SCORE // 2)
            # Faces at the rim may be cut off.
            aside = np.abs((found[:, :2] + found[:, 2:4]) / 2 - (x, y))
            looks.append(found[np.max(aside, axis=1) <= reach / 2])
        return _best(np.concatenate(looks))

    def look(
        self,
        pixels: NDArray[np.uint8],
        zoom: float,
        min_confidence: float,
        how: ort.RunOptions | None = None,
    ) -> Found:
        """Runs the network once on an image scaled by ``zoom``."""
        image, zoom_xy = _network_input(pixels, zoom)
        maps = self._session.run(list(OUTPUTS), {"image": image}, how)
        heatmap, scale, offset, landmarks = maps
        found = _decode(heatmap[0], scale[0], offset[0], landmarks[0], min_confidence)
        found[:, :SCORE] /= np.tile(zoom_xy, SCORE // 2)
        return _best(found)


def load_face_detector(path: Path, max_side: int = 640) -> FaceDetector:
    """Opens ``models/face_detector.onnx``; ModelError where it is missing or another file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"no face detector at {path}; FERSERVE_MODELS_DIR says where models are"
        ) from error
    session, _ = open_session(content, str(path), Runtime(provider="cpu"))
    return FaceDetector(session, max_side)


def _network_input(
    pixels: NDArray[np.uint8], zoom: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scales and pads an image for the network, and returns the true scale factors of x and y.

    Padding, where CenterFace stretches to the next multiple of 32, keeps the faces' proportions:
    on 450 FER2013 faces in photos it found 46 % against 42 %, with grey ahead of black and of
    repeated edges.
    """
    height, width = pixels.shape[:2]
    inner_width, inner_height = max(1, round(width * zoom)), max(1, round(height * zoom))
    scaled = pixels
    if (inner_width, inner_height) != (width, height):
        resized = Image.fromarray(pixels).resize(
            (inner_width, inner_height), Image.Resampling.BILINEAR, reducing_gap=2.0
        )
        scaled = np.asarray(resized)
    rows, columns = (
        math.ceil(side / SIDE_MULTIPLE) * SIDE_MULTIPLE for side in (inner_height, inner_width)
    )
    image = np.full((1, 3, rows, columns), PADDING, np.float32)
    # Grey goes into all three channels.
    channels = scaled if scaled.ndim == 2 else scaled.transpose(2, 0, 1)
    image[0, :, :inner_height, :inner_width] = channels
    return image, np.array([inner_width / width, inner_height / height], np.float32)


def _decode(
    heatmap: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    min_confidence: float,
) -> Found:
    """Reads the candidates off the output maps ``[channels, rows, columns]``, best first.

    Every pair of channels is (y, x). A box's centre is the cell's middle plus its offset, its
    sides are exponentials, and landmarks count from its upper left corner in units of its sides
    (section 3 of the paper).
    """
    rows, columns = np.nonzero(heatmap[0] >= min_confidence)
    best = np.argsort(-heatmap[0, rows, columns], kind="stable")[:MAX_CANDIDATES]
    rows, columns = rows[best], columns[best]
    sides = np.exp(scale[:, rows, columns]) * STRIDE
    cells = np.stack([rows, columns]).astype(np.float32)
    centres = (cells + 0.5 + offset[:, rows, columns]) * STRIDE
    starts = centres - sides / 2
    points = landmarks[:, rows, columns].reshape(5, 2, -1) * sides + starts
    pairs = np.stack([starts, starts + sides, *points])[:, ::-1]  # (x, y)
    return np.column_stack([pairs.reshape(SCORE, -1).T, heatmap[0, rows, columns]])


def _best(found: Found) -> Found:
    """Keeps the best of detections that overlap, best first."""
    found = found[np.argsort(-found[:, SCORE], kind="stable")]
    kept = []
    while len(found):
        kept.append(found[:1])
        found = found[1:][_overlaps(found[0], found[1:]) <= MAX_OVERLAP]
    return np.concatenate(kept) if kept else found


def _overlaps(box: Found, others: Found) -> NDArray[np.float32]:
    """Intersection over union of one box and others ``[n]``; 1 with itself."""
    low = np.maximum(box[:2], others[:, :2])
    common = np.prod(np.clip(np.minimum(box[2:4], others[:, 2:4]) - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    union = np.prod(box[2:4] - box[:2]) + areas - common
    return np.asarray(common / np.maximum(union, 1e-6))


def _as_faces(found: Found, height: int, width: int) -> list[Face]:
    faces = []
    for row in found:
        corners = np.rint(row[:4]).astype(int)
        x1, y1, x2, y2 = np.clip(corners, 0, [width, height, width, height]).tolist()
        if x2 <= x1 or y2 <= y1:  # lies in the padding
            continue
        box = Box(x=x1, y=y1, width=x2 - x1, height=y2 - y1)
        clipped = [x1, y1, x2, y2] != corners.tolist() or crop_leaves(box, width, height)
        faces.append(Face(box, float(row[SCORE]), row[4:SCORE].reshape(5, 2), clipped))
    return faces
