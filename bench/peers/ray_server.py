"""Ray Serve with ``@serve.batch``.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html,
https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
"""

import os
import secrets

import ray
from common import Classifier, Settings, decode
from ray import serve
from starlette.requests import Request

settings = Settings.from_environment()


@serve.deployment(
    num_replicas=settings.workers,
    max_ongoing_requests=1000,
    ray_actor_options={"num_cpus": settings.cores / settings.workers},
)
class Emotion:
    """Rates faces."""

    def __init__(self) -> None:
        self.classifier = Classifier(settings.model)

    @serve.batch(max_batch_size=settings.max_batch, batch_wait_timeout_s=settings.batch_wait)
    async def classify(self, images: list[bytes]) -> list[dict[str, float]]:
        """Rates a batch."""
        return self.classifier(decode(image) for image in images)

    async def __call__(self, request: Request) -> dict[str, float]:
        """Rates the face that is the request's body."""
        answer: dict[str, float] = await self.classify(await request.body())
        return answer


if __name__ == "__main__":
    # Ray's own token would be kept in a file of the user's home.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(num_cpus=settings.cores, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
    serve.run(Emotion.bind(), route_prefix="/classify", blocking=True)
