"""Plain FastAPI: ``session.run`` in the thread pool that ``def`` endpoints run in.

https://fastapi.tiangolo.com/async/ and, for the size of the pool,
https://www.starlette.io/threadpool/
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio.to_thread
import uvicorn
from common import Classifier, Settings, decode
from fastapi import Body, FastAPI

settings = Settings.from_environment()
classifier = Classifier(settings.model)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Sizes the thread pool."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = settings.threads
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
def classify(face: Annotated[bytes, Body(media_type="image/png")]) -> dict[str, float]:
    """Rates one face."""
    return classifier([decode(face)])[0]


@app.get("/ready")
def ready() -> None:
    """Says that requests are taken."""


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_server:app",
        port=settings.port,
        workers=settings.workers,
        log_level="warning",
        access_log=False,
    )
