"""BentoML with adaptive batching.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html,
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html
"""

import bentoml
import numpy as np
from common import CORES, MODEL, Classifier
from PIL.Image import Image


@bentoml.service(workers=CORES)
class Emotion:
    """Rates the images of a form; those of several requests are put together."""

    def __init__(self) -> None:
        self.classifier = Classifier(MODEL)

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=60_000)
    def classify(self, faces: list[Image]) -> list[dict[str, float]]:
        return self.classifier(np.asarray(face.convert("L")) for face in faces)
