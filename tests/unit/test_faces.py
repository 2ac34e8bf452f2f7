"""Finding faces in photos."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from ferserve.crops import crop_face
from ferserve.faces import Face, FaceDetector, load_face_detector
from ferserve.sessions import ModelError
from numpy.typing import NDArray
from PIL import Image

MODEL = Path("models/face_detector.onnx")
ASTRONAUT = skimage.data.astronaut()
FACE_BOX = (181, 58, 88, 120)

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return load_face_detector(MODEL)


def resized(rgb: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def overlap(face: Face, expected: tuple[float, float, float, float]) -> float:
    """Intersection over union of a face's box and (x, y, width, height)."""
    box = face.box
    x, y, width, height = expected
    across = min(box.x + box.width, x + width) - max(box.x, x)
    down = min(box.y + box.height, y + height) - max(box.y, y)
    common = max(0, across) * max(0, down)
    return common / (box.width * box.height + width * height - common)


class TestDetection:
    def test_finds_the_astronaut_once(self, detector: FaceDetector) -> None:
        (face,) = detector.detect(ASTRONAUT)
        assert overlap(face, FACE_BOX) > 0.9
        assert face.confidence == pytest.approx(0.89, abs=0.02)
        assert not face.clipped

    def test_landmarks_are_eyes_nose_and_mouth_from_left_to_right(
        self, detector: FaceDetector
    ) -> None:
        landmarks = detector.detect(ASTRONAUT)[0].landmarks
        assert landmarks.dtype == np.float32
        by_eye = [[203, 102], [247, 104], [222, 125], [203, 142], [241, 144]]
        np.testing.assert_allclose(landmarks, by_eye, atol=6)

    @pytest.mark.parametrize("photo", ["chelsea", "coffee", "rocket", "hubble_deep_field"])
    def test_finds_nothing_where_there_is_no_face(self, detector: FaceDetector, photo: str) -> None:
        assert detector.detect(getattr(skimage.data, photo)()) == []

    @pytest.mark.parametrize("scale", [0.25, 0.5, 2, 4])
    def test_boxes_are_pixels_of_the_image_at_any_size(
        self, detector: FaceDetector, scale: float
    ) -> None:
        side = int(512 * scale)
        (face,) = detector.detect(resized(ASTRONAUT, side, side))
        assert overlap(face, tuple(scale * value for value in FACE_BOX)) > 0.8
        assert abs(face.landmarks[2, 0] / scale - 222) < 6

    def test_the_image_may_be_stretched(self, detector: FaceDetector) -> None:
        (face,) = detector.detect(resized(ASTRONAUT, 700, 512))
        x, y, width, height = FACE_BOX
        assert overlap(face, (x * 700 / 512, y, width * 700 / 512, height)) > 0.8

    @pytest.mark.parametrize(("width", "height"), [(513, 541), (600, 900), (1000, 512)])
    def test_the_image_may_be_part_of_a_larger_one(
        self, detector: FaceDetector, width: int, height: int
    ) -> None:
        canvas = np.full((height, width, 3), 90, np.uint8)
        canvas[height - 512 :, width - 512 :] = ASTRONAUT
        (face,) = detector.detect(canvas)
        x, y, face_width, face_height = FACE_BOX
        moved = (x + width - 512, y + height - 512, face_width, face_height)
        assert overlap(face, moved) > 0.85

    def test_an_enlarged_face_that_fills_the_frame_is_found(self, detector: FaceDetector) -> None:
        face = ASTRONAUT[50:190, 165:285]
        blurred = resized(resized(face, 24, 28), 1200, 1400)
        (found,) = detector.detect(blurred)
        assert overlap(found, (160, 80, 880, 1200)) > 0.7

    @pytest.mark.parametrize("shape", [(8, 8, 3), (8, 3000, 3), (3000, 8, 3)])
    def test_odd_shapes_hold_no_face_and_no_error(
        self, detector: FaceDetector, shape: tuple[int, int, int]
    ) -> None:
        assert detector.detect(np.full(shape, 120, np.uint8)) == []


class TestManyFaces:
    @pytest.fixture(scope="class")
    def two(self) -> Pixels:
        """The astronaut small on the left, large on the right."""
        canvas = np.full((600, 1000, 3), 128, np.uint8)
        canvas[100:356, 50:306] = resized(ASTRONAUT, 256, 256)
        canvas[40:552, 450:962] = ASTRONAUT
        return canvas

    def test_come_largest_first(self, detector: FaceDetector, two: Pixels) -> None:
        large, small = detector.detect(two)
        assert overlap(large, (450 + 181, 40 + 58, 88, 120)) > 0.75
        assert overlap(small, (50 + 90, 100 + 29, 44, 60)) > 0.7

    def test_the_largest_stay_when_there_are_too_many(
        self, detector: FaceDetector, two: Pixels
    ) -> None:
        (only,) = detector.detect(two, max_faces=1)
        assert only.box == detector.detect(two)[0].box

    def test_the_threshold_decides(self, detector: FaceDetector, two: Pixels) -> None:
        scores = [face.confidence for face in detector.detect(two)]
        assert detector.detect(two, min_confidence=max(scores) + 0.001) == []
        assert len(detector.detect(two, min_confidence=min(scores) - 0.001)) == 2

    def test_every_box_lies_inside_the_image_even_at_threshold_0(
        self, detector: FaceDetector, two: Pixels
    ) -> None:
        faces = detector.detect(two, min_confidence=0.0, max_faces=1000)
        assert len(faces) > 2
        for box in (face.box for face in faces):
            assert 0 <= box.x < box.x + box.width <= 1000
            assert 0 <= box.y < box.y + box.height <= 600


class TestClipped:
    @pytest.mark.parametrize(
        "part",
        [np.s_[:, 210:], np.s_[:, :240], np.s_[90:], np.s_[:150]],
        ids=["left", "right", "top", "bottom"],
    )
    def test_a_face_cut_by_the_edge_says_so(
        self, detector: FaceDetector, part: tuple[slice, ...]
    ) -> None:
        photo = np.ascontiguousarray(ASTRONAUT[part])
        (face,) = detector.detect(photo)
        assert face.clipped
        assert crop_face(photo, face.box).shape == (48, 48)

    def test_a_crop_that_leaves_the_image_says_so_too(self, detector: FaceDetector) -> None:
        (face,) = detector.detect(np.ascontiguousarray(ASTRONAUT[:, 175:290]))
        assert face.box.x > 0
        assert face.clipped


def test_its_crop_has_the_face_in_the_middle(detector: FaceDetector) -> None:
    crop = crop_face(ASTRONAUT, detector.detect(ASTRONAUT)[0].box)
    assert (crop.shape, crop.dtype) == ((48, 48), np.uint8)
    # Found again in its own crop, the face has the median box of FER2013 images.
    (again,) = detector.detect(np.repeat(crop[:, :, None], 3, axis=2))
    assert overlap(again, (0.09 * 48, 0.043 * 48, 0.82 * 48, 0.94 * 48)) > 0.6


class TestLoading:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"nothing\.onnx"):
            load_face_detector(tmp_path / "nothing.onnx")

    def test_a_file_that_is_no_network(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"no network")
        with pytest.raises(ModelError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
            load_face_detector(broken)

    def test_another_network(self) -> None:
        with pytest.raises(ModelError, match=r"needs the tensors .*heatmap.* has \['faces', 'prob"):
            load_face_detector(MODEL.with_name("light.onnx"))


def test_a_grey_photo_has_the_faces_of_the_same_photo_in_colours(detector: FaceDetector) -> None:
    grey = np.asarray(Image.fromarray(ASTRONAUT).convert("L").resize((700, 700)))
    (found,) = detector.detect(grey)
    (expected,) = detector.detect(np.repeat(grey[:, :, None], 3, axis=2))
    assert found.box == expected.box
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-5)
