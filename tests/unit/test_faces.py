"""Finding faces in photos, and cutting them out the way FER2013 did."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import skimage.data
from ferserve.faces import Box, Face, FaceDetector, crop_face, load_face_detector, whole_face
from ferserve.images import decode_image
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
        assert face.confidence == pytest.approx(0.93, abs=0.02)
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
        assert overlap(face, tuple(scale * value for value in FACE_BOX)) > 0.85
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

    def test_a_sideways_photo_is_found_upright(self, detector: FaceDetector) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.fromarray(ASTRONAUT).transpose(Image.Transpose.ROTATE_90).save(
            buffer, "JPEG", exif=exif
        )
        (face,) = detector.detect(decode_image(buffer.getvalue(), 1_000_000).rgb)
        assert overlap(face, FACE_BOX) > 0.85

    def test_an_enlarged_face_that_fills_the_frame_is_found(self, detector: FaceDetector) -> None:
        face = ASTRONAUT[50:190, 165:285]
        blurred = resized(resized(face, 24, 28), 1200, 1400)
        (found,) = detector.detect(blurred)
        assert overlap(found, (160, 80, 880, 1200)) > 0.7

    def test_grey_images_are_fine(self, detector: FaceDetector) -> None:
        grey = Image.fromarray(ASTRONAUT).convert("L").convert("RGB")
        (face,) = detector.detect(np.asarray(grey))
        assert overlap(face, FACE_BOX) > 0.85

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
            assert box.x >= 0
            assert box.y >= 0
            assert box.width > 0
            assert box.height > 0
            assert box.x + box.width <= 1000
            assert box.y + box.height <= 600


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


class TestLoading:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing\.onnx"):
            load_face_detector(tmp_path / "nothing.onnx")

    def test_a_file_that_is_no_network(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"no network")
        with pytest.raises(ValueError, match=r"broken\.onnx cannot be loaded"):
            load_face_detector(broken)

    def test_a_useless_side(self) -> None:
        with pytest.raises(ValueError, match="at least 32"):
            load_face_detector(MODEL, max_side=31)

    def test_another_network(self) -> None:
        from onnx import TensorProto, helper

        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])], "other", value[:1], value[1:]
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        with pytest.raises(ValueError, match=r"needs the tensors .*heatmap.* has \['x', 'y'\]"):
            FaceDetector(session, 640)


class TestCrop:
    """A square of 1.066 times the box's height around the box's centre."""

    def test_shows_the_square_around_the_box(self) -> None:
        ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)).copy()
        crop = crop_face(ramp, Box(80, 60, 40, 90))  # side 95.94 around x = 100
        step = 1.066 * 90 / 48
        expected = 100 - 48 * step / 2 + (np.arange(48) + 0.5) * step - 0.5
        np.testing.assert_allclose(crop[24, 2:-2], expected[2:-2], atol=1)

    def test_grey_is_the_luma_of_bt_601(self) -> None:
        image = np.full((100, 100, 3), (200, 100, 50), np.uint8)
        luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
        assert np.unique(crop_face(image, Box(30, 30, 40, 40))).tolist() == [luma]

    def test_is_the_face_in_the_middle(self, detector: FaceDetector) -> None:
        crop = crop_face(ASTRONAUT, detector.detect(ASTRONAUT)[0].box)
        assert (crop.shape, crop.dtype) == ((48, 48), np.uint8)
        # Found again in its own crop, the face has the median box of FER2013 images.
        (again,) = detector.detect(np.repeat(crop[:, :, None], 3, axis=2))
        assert overlap(again, (0.09 * 48, 0.043 * 48, 0.82 * 48, 0.94 * 48)) > 0.6

    def test_is_the_same_at_every_size_of_the_photo(self) -> None:
        doubled = resized(ASTRONAUT, 1024, 1024)
        one = crop_face(ASTRONAUT, Box(181, 58, 88, 120)).astype(int)
        two = crop_face(doubled, Box(362, 116, 176, 240)).astype(int)
        assert np.abs(one - two).mean() < 2

    def test_a_small_face_is_enlarged_smoothly(self) -> None:
        small = resized(ASTRONAUT, 85, 85)
        crop = crop_face(small, Box(30, 10, 15, 20)).astype(int)
        large = crop_face(ASTRONAUT, Box(181, 60, 90, 120)).astype(int)
        assert np.corrcoef(crop.ravel(), large.ravel())[0, 1] > 0.9

    @pytest.mark.parametrize(
        ("box", "filled"),
        [
            (Box(0, 60, 30, 60), np.s_[:, 0]),
            (Box(130, 60, 30, 60), np.s_[:, -1]),
            (Box(60, 0, 30, 40), np.s_[0]),
            (Box(60, 120, 30, 40), np.s_[-1]),
        ],
        ids=["left", "right", "top", "bottom"],
    )
    def test_outside_the_image_the_edge_is_repeated_not_black(
        self, box: Box, filled: tuple[slice, int]
    ) -> None:
        image = np.full((160, 160, 3), 100, np.uint8)
        image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 200
        crop = crop_face(image, box)
        assert crop.min() > 80
        assert crop[filled].mean() > 150

    def test_inside_pixels_do_not_depend_on_the_border(self) -> None:
        whole = crop_face(ASTRONAUT, Box(181, 58, 88, 120)).astype(int)
        cut = crop_face(np.ascontiguousarray(ASTRONAUT[:, 170:]), Box(11, 58, 88, 120))
        assert np.abs(whole[:, 6:] - cut[:, 6:]).max() <= 2
        assert np.ptp(cut[:, :4], axis=1).max() == 0

    def test_a_sliver_costs_no_memory(self) -> None:
        # A square of the box's height would be 10 gigapixels.
        tall = np.full((100_000, 8, 3), 77, np.uint8)
        assert np.unique(crop_face(tall, Box(3, 0, 1, 100_000))).tolist() == [77]


def test_a_grey_photo_has_the_faces_of_the_same_photo_in_colours(detector: FaceDetector) -> None:
    grey = np.asarray(Image.fromarray(ASTRONAUT).convert("L").resize((700, 700)))
    (found,) = detector.detect(grey)
    (expected,) = detector.detect(np.repeat(grey[:, :, None], 3, axis=2))
    assert found.box == expected.box
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-5)


class TestWholeFace:
    def test_a_grey_48_by_48_image_comes_back_bit_for_bit(self) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
        np.testing.assert_array_equal(whole_face(np.repeat(grey[:, :, None], 3, axis=2)), grey)
        np.testing.assert_array_equal(whole_face(grey), grey)

    @pytest.mark.parametrize(
        "cut", [whole_face, lambda pixels: crop_face(pixels, Box(9, 7, 9, 40))]
    )
    def test_grey_gives_the_same_as_the_colours_it_is_shown_in(
        self, cut: Callable[[Pixels], Pixels]
    ) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (60, 31), dtype=np.uint8)
        np.testing.assert_array_equal(cut(grey), cut(np.repeat(grey[:, :, None], 3, axis=2)))

    def test_a_square_image_is_scaled(self) -> None:
        expected = (
            Image.fromarray(ASTRONAUT).convert("L").resize((48, 48), Image.Resampling.LANCZOS)
        )
        np.testing.assert_array_equal(whole_face(ASTRONAUT), np.asarray(expected))

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_shorter_side_is_filled_by_its_edges(self, turned: bool) -> None:
        image = np.zeros((96, 48, 3), np.uint8)
        image[:, :24], image[:, 24:] = 60, 180
        face = whole_face(np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image)
        face = face.T if turned else face
        assert face.shape == (48, 48)
        assert np.unique(face[:, :20]).tolist() == [60]
        assert np.unique(face[:, 28:]).tolist() == [180]

    @pytest.mark.parametrize("shape", [(8, 8), (9, 31), (47, 48), (49, 48), (8, 1_000_000)])
    def test_any_shape_gives_48_by_48(self, shape: tuple[int, int]) -> None:
        assert np.unique(whole_face(np.full((*shape, 3), 9, np.uint8))).tolist() == [9]
