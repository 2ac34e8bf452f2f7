"""LitServe, with images as base64 in JSON as in its own image benchmark.

https://lightning.ai/docs/litserve/features/batching,
https://lightning.ai/docs/litserve/api-reference/litserver
"""

import base64
import os

import litserve as ls
import numpy as np
from common import Classifier, Settings, decode
from numpy.typing import NDArray

settings = Settings.from_environment()


class Emotion(ls.LitAPI):
    """Rates faces."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature is LitServe's
        """Loads the model in each worker."""
        self.classifier = Classifier(settings.model)

    def decode_request(self, request: dict[str, str]) -> NDArray[np.uint8]:
        """Takes a face out of a request."""
        return decode(base64.b64decode(request["image"]))

    def predict(self, faces: NDArray[np.uint8]) -> list[dict[str, float]] | dict[str, float]:
        """Rates a batch ``[N, 48, 48]``, or without batching one face ``[48, 48]``."""
        return self.classifier([faces])[0] if faces.ndim == 2 else self.classifier(faces)

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        """Answers the probabilities."""
        return output


if __name__ == "__main__":
    server = ls.LitServer(
        Emotion(max_batch_size=settings.max_batch, batch_timeout=settings.batch_wait),
        accelerator="cpu",
        devices=1,
        workers_per_device=settings.workers,
        fast_queue=os.environ.get("PEER_FAST_QUEUE") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=settings.port,
        num_api_servers=int(os.environ.get("PEER_API_SERVERS", "1")),
        log_level="warning",
        generate_client_file=False,
    )
