"""``create_app``: wiring and life cycle, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from ferserve.api import benchmark, deepface, emotion, inference_protocol, pages, stream
from ferserve.api.middleware import AnswerFaults, DrainBody, RequestContext
from ferserve.api.problems import HANDLED, handle
from ferserve.api.security import Guard
from ferserve.benchmark.run import Benchmarks
from ferserve.budget import UploadBudget
from ferserve.metrics import Metrics
from ferserve.recognizer import AsyncRecognizer
from ferserve.settings import Settings, usable_cpus
from ferserve.streaming import Streams

DESCRIPTION = """\
Finds faces in a photo and rates how the expression of each appears: angry, disgust, fear, happy,
sad, surprise or neutral. **The score describes a face, not a feeling.** No image is stored.

Video goes through the WebSocket `/v1/emotion/stream`, which OpenAPI cannot describe:
binary frames in, for each frame a JSON message out, with tracked faces and smoothed scores; see
`docs/stream.md` of the project.
"""

DOCUMENTATION = FastAPIOffline(title="ferserve", swagger_ui_parameters={"validatorUrl": None})
"""Its pages, without a CDN. One for all applications: FastAPI keeps the functions of routes for
ever, and these hold their application."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Makes the application and loads its models; its start-up warms them.

    Args:
        settings: Read from the environment where not given.

    Raises:
        ModelError: A model or the face detector cannot be served; the message says why.
    """
    settings = settings or Settings()
    metrics = Metrics(count_emotions=settings.metrics_emotions)
    recognizer = AsyncRecognizer(settings, metrics)
    benchmarks = Benchmarks(recognizer)
    streams = Streams(settings.max_streams, metrics)
    guard = Guard(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Parsing holds Python's lock: more at a time are no faster, and hold all their objects.
        current_default_thread_limiter().total_tokens = 2 * usable_cpus()
        await recognizer.start()
        yield
        streams.begin_close()
        await benchmarks.queue.close()
        await recognizer.close()

    app = FastAPI(
        title="ferserve",
        version=version("ferserve"),
        description=DESCRIPTION,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(HANDLED, handle),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the middleware takes the slash away
    )
    app.root_path = settings.root_path  # FastAPI warns of the argument: it wants the server's
    app.router.routes.extend(DOCUMENTATION.routes)
    app.state.recognizer = recognizer
    app.state.benchmarks = benchmarks
    app.state.metrics = metrics
    app.state.guard = guard
    app.state.streams = streams
    app.state.upload_budget = UploadBudget(settings.upload_memory_bytes)
    metrics.watch("ready", "1 while /readyz says yes.", lambda: recognizer.not_ready_reason is None)
    app.add_middleware(AnswerFaults, guard=guard)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "X-Request-Timeout-Ms"],
            expose_headers=["Location", "Retry-After", "Server-Timing", "X-Request-ID"],
        )
    app.add_middleware(RequestContext, metrics=metrics, is_draining=lambda: recognizer.draining)
    app.add_middleware(DrainBody)
    resources = (emotion.router, pages.models, benchmark.router)
    for router in (*resources, inference_protocol.router, deepface.router):
        app.include_router(router, dependencies=guard.dependencies(counts=True))
    app.include_router(stream.router)  # asks the guard itself: its clients see no HTTP status
    app.include_router(pages.metrics, dependencies=guard.dependencies(counts=False))
    app.include_router(inference_protocol.health)
    app.include_router(pages.router)
    app.mount("/static", pages.PageFiles(directory=pages.WEB / "static"), name="static")
    return app
