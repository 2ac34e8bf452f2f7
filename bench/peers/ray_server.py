"""Ray Serve with ``@serve.batch``.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html,
https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
"""

import os
import secrets

import ray
from common import CORES, MODEL, PORT, Classifier, decode
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=CORES, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Emotion:
    def __init__(self) -> None:
        self.classifier = Classifier(MODEL)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)
    async def classify(self, images: list[bytes]) -> list[dict[str, float]]:
        return self.classifier(decode(image) for image in images)

    async def __call__(self, request: Request) -> dict[str, float]:
        return await self.classify(await request.body())


if __name__ == "__main__":
    # Ray's own token would be kept in a file of the user's home.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Emotion.bind(), route_prefix="/classify", blocking=True)
