"""BentoML: a service of one image a request, and one with adaptive batching.

https://docs.bentoml.com/en/latest/build-with-bentoml/iotypes.html (root input),
https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html,
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html
"""

import bentoml
import numpy as np
from common import Classifier, Settings
from PIL.Image import Image

settings = Settings.from_environment()


@bentoml.service(workers=settings.workers, threads=settings.threads)
class Single:
    """Rates the image that is the request's body."""

    def __init__(self) -> None:
        self.classifier = Classifier(settings.model)

    @bentoml.api
    def classify(self, face: Image, /) -> dict[str, float]:
        """Rates one face."""
        return self.classifier([np.asarray(face.convert("L"))])[0]


@bentoml.service(workers=settings.workers, threads=settings.threads)
class Batched:
    """Rates the images of a form; those of several requests are put together."""

    def __init__(self) -> None:
        self.classifier = Classifier(settings.model)

    @bentoml.api(batchable=True, max_batch_size=max(settings.max_batch, 2), max_latency_ms=60_000)
    def classify(self, faces: list[Image]) -> list[dict[str, float]]:
        """Rates some faces."""
        return self.classifier(np.asarray(face.convert("L")) for face in faces)
