"""The exported graphs of the big two, with pretrained weights and ONNX Runtime's optimisations."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from ferserve_export.convert import convert, serving
from ferserve_export.verify import verify_parity
from ferserve_training.networks import build_network
from ferserve_training.networks.backbone import load_backbone
from PIL import Image

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "pretrained"
PRETRAINED = Path(os.environ.get("FERSERVE_PRETRAINED") or BESIDE_THE_REPOSITORY)
FILES = {
    "vgg16": "vgg16_imagenet_notop.h5",
    "resnet50v2": "resnet50v2_imagenet_conv1_to_conv4_notop.h5",
}


@pytest.fixture(scope="module")
def real_faces(photo) -> np.ndarray:
    """The astronaut's face in seven crops, uint8 [7, 48, 48]."""
    astronaut = Image.open(io.BytesIO(photo("astronaut"))).convert("L")
    boxes = [(161 + 3 * i, 54 + 2 * i, 289 - i, 182 - 2 * i) for i in range(7)]
    return np.stack([np.asarray(astronaut.crop(box).resize((48, 48))) for box in boxes])


@pytest.mark.parametrize("name", FILES)
def test_onnx_runtime_computes_what_keras_does(name: str, real_faces: np.ndarray):
    if not PRETRAINED.exists():
        pytest.skip("needs pretrained weights: set FERSERVE_PRETRAINED to their folder")
    network = build_network(name, side=64)
    load_backbone(network.get_layer("backbone"), PRETRAINED / FILES[name])
    logits = network.get_layer("logits")
    fan_in = logits.kernel.shape[0]
    # Strong enough for probabilities that differ from face to face.
    scale = 3 if name == "vgg16" else 15
    rng = np.random.default_rng(0)
    logits.kernel.assign(rng.normal(0, scale / np.sqrt(fan_in), logits.kernel.shape))
    assert np.ptp(network(real_faces, training=False), axis=0).max() > 0.3
    assert verify_parity(serving(network), convert(serving(network)), real_faces) < 1e-5
