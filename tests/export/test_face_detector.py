"""The face detector: CenterFace's weights behind dynamic sides and clear names."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

SERVED = Path("models/face_detector.onnx")
CHANNELS = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}


@pytest.fixture
def detector() -> ort.InferenceSession:
    return ort.InferenceSession(SERVED, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (480, 640), (640, 352)])
def test_it_takes_any_sides_that_are_multiples_of_32(detector, height: int, width: int) -> None:
    maps = detector.run(list(CHANNELS), {"image": np.zeros((1, 3, height, width), np.float32)})
    assert [one.shape for one in maps] == [
        (1, channels, height // 4, width // 4) for channels in CHANNELS.values()
    ]
    assert 0 <= maps[0].min() <= maps[0].max() <= 1


def test_it_says_where_it_comes_from(detector) -> None:
    metadata = detector.get_modelmeta().custom_metadata_map
    assert metadata["name"] == "face_detector"
    assert metadata["licence"] == "MIT"
    assert "CenterFace" in metadata["source"]
