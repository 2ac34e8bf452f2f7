"""LitServe, with images as base64 in JSON as in its own image benchmark.

https://lightning.ai/docs/litserve/features/batching,
https://lightning.ai/docs/litserve/api-reference/litserver
"""

import base64

import litserve as ls
import numpy as np
from common import CORES, MODEL, PORT, Classifier, decode
from numpy.typing import NDArray


class Emotion(ls.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature is LitServe's
        self.classifier = Classifier(MODEL)

    def decode_request(self, request: dict[str, str]) -> NDArray[np.uint8]:
        return decode(base64.b64decode(request["image"]))

    def predict(self, faces: NDArray[np.uint8]) -> list[dict[str, float]]:
        """Rates a batch ``[N, 48, 48]``."""
        return self.classifier(faces)

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        return output


if __name__ == "__main__":
    server = ls.LitServer(
        Emotion(max_batch_size=8, batch_timeout=0.01),  # with no wait its loop never pauses
        accelerator="cpu",
        devices=1,
        workers_per_device=CORES,
        fast_queue=True,
    )
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
