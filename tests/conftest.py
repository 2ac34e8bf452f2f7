"""Real photos, and a small real model that meets the contract, for all tests."""

import gc
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.garbage import give_back_free_pages, give_back_large_blocks
from hypothesis import HealthCheck, settings
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = REPOSITORY / "models"

# How long a machine takes for an example says nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SLOW = (
    "tests/bench/", "tests/cluster/", "tests/hostile/", "tests/models/",
    "tests/training/test_backbone", "tests/training/test_evaluate",
    "tests/training/test_export_parity", "tests/training/test_released",
    "tests/training/test_schedule", "tests/training/test_train_command", "tests/export/test_export",
    "tests/e2e/test_benchmark", "tests/e2e/test_client_page", "tests/e2e/test_demo",
    "tests/e2e/test_fuzz", "tests/e2e/test_loadtest", "tests/e2e/test_private",
    "tests/e2e/test_process",
)  # fmt: skip
"""What ``make test`` leaves to ``make test-slow``: long trainings, big networks, the browser, load,
benchmarks, hostile input. One tiny training and export stays, in tests/export/test_heads.py."""

Photo = Callable[..., bytes]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Frees soon what tests leave, models above all.

    TensorFlow's many objects would else make full collections rare.
    """
    give_back_large_blocks()
    give_back_free_pages()
    gc.freeze()


@pytest.fixture(scope="session")
def photo() -> Photo:
    """``photo("astronaut", format="JPEG", size=(w, h), crop=(l, t, r, b))`` → a file's bytes."""
    import skimage.data

    def encode(
        name: str,
        format: str = "PNG",
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> bytes:
        image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        image = image.crop(crop) if crop else image
        image = image.resize(size) if size else image
        file = io.BytesIO()
        image.save(file, format)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def grey_crop(photo: Photo) -> bytes:
    """A 48x48 grey face, made from the astronaut."""
    face = Image.open(io.BytesIO(photo("astronaut", crop=(161, 54, 289, 182))))
    file = io.BytesIO()
    face.convert("L").resize((FACE_SIDE, FACE_SIDE)).save(file, "PNG")
    return file.getvalue()


def _write_standin(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    labels: tuple[str, ...] | None = EMOTIONS,
    softmax: bool = True,
    batch: str | int = "N",
    input_name: str = "faces",
    low_confidence_threshold: float = 0.0,
    **card: Any,
) -> Path:
    """Writes a small convolutional network that meets the ONNX contract, and its card.

    The weights are random but fixed, so that every face gets an answer of its own.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    weights = {
        "scale": np.float32(1 / 255),
        "channel": np.array([1], np.int64),
        "kernel": random.normal(0, 0.3, (8, 1, 5, 5)).astype(np.float32),
        "dense": random.normal(0, 0.1, (8 * 12 * 12, len(EMOTIONS))).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", [input_name], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "channel"], ["image"]),
        helper.make_node(
            "Conv", ["image", "kernel"], ["features"], strides=[4, 4], pads=[2, 2, 2, 2]
        ),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("Flatten", ["active"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits" if softmax else "probabilities"]),
        *([helper.make_node("Softmax", ["logits"], ["probabilities"])] if softmax else []),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [
            helper.make_tensor_value_info(
                input_name, TensorProto.UINT8, [batch, FACE_SIDE, FACE_SIDE]
            )
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(EMOTIONS)])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if labels is not None:
        helper.set_model_props(model, {"labels": json.dumps(labels)})
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    fields: dict[str, Any] = {
        "name": name,
        "version": "0.0.1",
        "description": "random weights",
        "labels": list(EMOTIONS),
        "input": {"name": "faces"},
        "output": {"name": "probabilities"},
        "parameters": sum(np.size(value) for value in weights.values()),
        "training": {},
        "metrics": {"private": {"n": 3589, "accuracy": 0.125, "macro_f1": 0.1, "ece": 0.2}},
        "temperature": 1.0,
        "low_confidence_threshold": low_confidence_threshold,
        "mirror_averaging": False,
        "licences": ["Apache-2.0"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    ModelCard(**(fields | card)).write(folder / f"{name}.json")
    return path


@pytest.fixture(scope="session")
def write_standin() -> Callable[..., Path]:
    """``write_standin(folder, name, …)``: a model and its card, broken as asked for."""
    return _write_standin


@pytest.fixture(scope="session")
def standin_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models ``first`` and ``second`` and the real face detector."""
    folder = tmp_path_factory.mktemp("models")
    _write_standin(folder, "first", seed=1)
    _write_standin(folder, "second", seed=2, low_confidence_threshold=1.0)
    shutil.copy(MODELS / "face_detector.onnx", folder)
    return folder
