"""Faces with little detail are sharpened, others stay as they are."""

import keras
import numpy as np
import onnxruntime
import pytest
from ferserve_export.convert import convert, serving
from ferserve_training.networks.sharpening import Sharpening
from PIL import Image, ImageFilter
from skimage import data


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    """The astronaut's face and three more pictures with as much detail, uint8 [4, 48, 48]."""
    grey = Image.fromarray(data.astronaut()).convert("L")
    corners = [(172, 56), (200, 300), (50, 250), (330, 150)]
    boxes = [(x, y, x + 110, y + 110) for x, y in corners]
    return np.stack([np.asarray(grey.crop(box).resize((48, 48))) for box in boxes])


@pytest.fixture(scope="module")
def blurred(sharp) -> np.ndarray:
    soft = [Image.fromarray(face).filter(ImageFilter.GaussianBlur(1)) for face in sharp]
    return np.stack([np.asarray(face) for face in soft])


def sharpen(faces: np.ndarray) -> np.ndarray:
    return np.asarray(Sharpening()(faces.astype(np.float32))).astype(np.uint8)


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second).mean(axis=(1, 2))


def test_faces_with_the_detail_of_fer2013_stay_as_they_are():
    noise = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    assert np.array_equal(sharpen(noise), noise)


def test_blurred_faces_come_closer_to_what_they_were(sharp, blurred):
    assert (distance(sharpen(blurred), sharp) < 0.8 * distance(blurred, sharp)).all()


def test_faces_without_any_detail_stay_as_they_are():
    blank = np.full((1, 48, 48), 90, np.uint8)
    assert np.array_equal(sharpen(blank), blank)


def test_the_mirror_image_is_sharpened_alike(blurred):
    assert np.array_equal(sharpen(blurred[:, :, ::-1]), sharpen(blurred)[:, :, ::-1])


def test_the_exported_graph_sharpens_whatever_else_is_in_the_batch(blurred):
    faces, logits = keras.Input((48, 48), dtype="uint8"), keras.layers.Dense(7)
    grey = keras.ops.cast(faces, "float32")
    plain, network = (
        keras.Model(faces, logits(keras.layers.Flatten()(pixels)))
        for pixels in (grey, Sharpening()(grey))
    )
    logits.kernel.assign(np.random.default_rng(0).normal(0, 5e-4, logits.kernel.shape))
    expected = np.asarray(serving(plain)(sharpen(blurred)))
    assert not np.allclose(serving(plain)(blurred), expected, atol=1e-3)
    session = onnxruntime.InferenceSession(
        convert(serving(network)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert np.allclose(session.run(None, {"faces": blurred})[0], expected, atol=1e-5)
    for face, row in zip(blurred, expected, strict=True):
        assert np.allclose(session.run(None, {"faces": face[None]})[0], row, atol=1e-5)
