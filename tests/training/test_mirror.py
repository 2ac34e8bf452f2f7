"""`ferserve evaluate --no-mirror`: the served graph without the mirror image."""

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from ferserve.card import ModelCard, PowerScaling
from ferserve_export.compress import compress
from ferserve_export.convert import convert
from ferserve_training.errors import TrainingError
from ferserve_training.evaluate import open_model, open_onnx
from ferserve_training.mirror import without_mirror
from ferserve_training.networks import custom_cnn
from synthetic_fer2013 import face

MODELS = Path(__file__).resolve().parents[2] / "models"
SCALING = PowerScaling(scale=0.4, exponent=1.7)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([face(i, rng) for i in range(7)])


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return custom_cnn.build(widths=(8, 8, 128, 128))  # enough weights to be stored as int8


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("scaling", [None, SCALING], ids=["tempered", "scaled"])
def test_what_is_left_is_the_graph_that_was_exported_without_mirror(network, faces, scaling, count):
    settings = {"temperature": 0.1, "power_scaling": scaling}
    mirrored, plain = (
        convert(network, mirror=mirror, **settings).SerializeToString() for mirror in (True, False)
    )
    expected = open_onnx(plain)(faces[:count])
    assert np.allclose(open_onnx(without_mirror(mirrored))(faces[:count]), expected, atol=1e-6)
    assert np.abs(open_onnx(mirrored)(faces[:count]) - expected).max() > 1e-3


def test_both_views_one_after_the_other_make_the_served_answer(network, faces):
    served = compress(convert(network, mirror=True)).SerializeToString()
    cut = open_onnx(without_mirror(served))
    views = [cut(faces), cut(np.ascontiguousarray(faces[:, :, ::-1]))]
    assert np.allclose(np.mean(views, axis=0), open_onnx(served)(faces), atol=1e-6)


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet50v2"])
def test_of_a_released_model_only_faces_unlike_their_mirror_images_are_answered_otherwise(
    name: str, faces: np.ndarray
):
    path = MODELS / f"{name}.onnx"
    assert ModelCard.read(path.with_suffix(".json")).mirror_averaging
    left = faces[:3, :, :24]
    symmetric = np.concatenate([left, left[:, :, ::-1]], axis=2)
    served, cut = open_model(path), open_model(path, mirror=False)
    assert np.allclose(cut(symmetric), served(symmetric), atol=1e-5)
    assert np.abs(cut(faces[:3]) - served(faces[:3])).max() > 1e-3


def test_labels_and_weights_stay_and_nothing_is_left_unread(network):
    served = convert(network, mirror=True)
    onnx.helper.set_model_props(served, {"labels": "[]"})
    cut = onnx.load_from_string(without_mirror(served.SerializeToString()))
    assert [(entry.key, entry.value) for entry in cut.metadata_props] == [("labels", "[]")]
    read = {name for node in cut.graph.node for name in node.input} | {"probabilities"}
    assert {name for node in cut.graph.node for name in node.output} <= read
    assert {tensor.name for tensor in cut.graph.initializer} <= read


def test_a_graph_without_mirror_image_is_refused(network):
    with pytest.raises(TrainingError, match="averages no face with its mirror image"):
        without_mirror(convert(network).SerializeToString())


def test_what_is_no_onnx_file_is_refused():
    with pytest.raises(TrainingError, match="not an ONNX file"):
        without_mirror(b"no model")
