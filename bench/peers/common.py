"""What the peers' servers do alike, so that the framework around it is what differs.

Runs in each peer's own environment: needs NumPy, Pillow and ONNX Runtime, and nothing of ferserve.
"""

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

# ONNX Runtime reads this when it is imported, and would otherwise report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

MODEL = Path(os.environ.get("PEER_MODEL", ""))
PORT = int(os.environ.get("PEER_PORT", "0"))
CORES = int(os.environ.get("PEER_CORES", "1"))
"""How a server is to run: its model, its port at 127.0.0.1, and the processors it may use."""


class Classifier:
    """The model in a session with ferserve's own options: one thread a run, none that spin."""

    def __init__(self, model: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.session = ort.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        self._labels = json.loads(self.session.get_modelmeta().custom_metadata_map["labels"])

    def __call__(self, faces: Iterable[NDArray[np.uint8]]) -> list[dict[str, float]]:
        """Rates faces ``[48, 48]``: the probability of each emotion, by name."""
        (rows,) = self.session.run(None, {"faces": np.stack(list(faces))})
        return [dict(zip(self._labels, row, strict=True)) for row in rows.tolist()]


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decodes an image file of a face into grey ``[48, 48]``."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))
