"""What the peers' servers do alike, so that the framework around it is what differs.

Runs in each peer's own environment: needs NumPy, Pillow and ONNX Runtime, and nothing of ferserve.
"""

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Settings:
    """How a server is to run; each field ``x`` is the environment variable ``PEER_X``.

    Attributes:
        model: The ONNX file.
        port: To listen on, at 127.0.0.1.
        cores: Processors the server may use.
        workers: Processes or replicas that classify.
        threads: Threads that classify, where the server has such a setting.
        max_batch: Most faces in a batch; 1 means no batching.
        batch_wait: Seconds a request may wait for others.
    """

    model: Path
    port: int
    cores: int
    workers: int = 1
    threads: int = 1
    max_batch: int = 1
    batch_wait: float = 0.0

    @classmethod
    def from_environment(cls) -> "Settings":
        """Reads them."""
        return cls(
            model=Path(os.environ["PEER_MODEL"]),
            port=int(os.environ["PEER_PORT"]),
            cores=int(os.environ["PEER_CORES"]),
            workers=int(os.environ.get("PEER_WORKERS", "1")),
            threads=int(os.environ.get("PEER_THREADS", "1")),
            max_batch=int(os.environ.get("PEER_MAX_BATCH", "1")),
            batch_wait=float(os.environ.get("PEER_BATCH_WAIT", "0")),
        )


class Classifier:
    """The model in a session with ferserve's own options: one thread a run, none that spin."""

    def __init__(self, model: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = ort.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        self._labels = json.loads(self._session.get_modelmeta().custom_metadata_map["labels"])

    def __call__(self, faces: Iterable[NDArray[np.uint8]]) -> list[dict[str, float]]:
        """Rates faces ``[48, 48]``: the probability of each emotion, by name."""
        (rows,) = self._session.run(None, {"faces": np.stack(list(faces))})
        return [dict(zip(self._labels, row, strict=True)) for row in rows.tolist()]


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decodes an image file of a face into grey ``[48, 48]``."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))
