"""``create_app``: wiring and life cycle, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service import errors
from service.benchmark.jobs import JobQueue
from service.benchmark.run import Benchmarks
from service.middleware import RequestContext
from service.recognizer import Recognizer
from service.routes import benchmark, emotion, health, models
from service.settings import Settings

DESCRIPTION = """\
Finds faces in a photo and rates how the expression of each appears: angry, disgust, fear, happy,
sad, surprise or neutral. **The score describes a face, not a feeling.** No image is stored.
"""


def create_app(settings: Settings | None = None, recognizer: Recognizer | None = None) -> FastAPI:
    """Makes the application; its start-up loads and warms the models.

    Args:
        settings: Read from the environment where not given.
        recognizer: Made from ``settings`` already, by a caller who wants its errors first.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.recognizer = serving = recognizer or Recognizer(settings)
        app.state.benchmarks = benchmarks = Benchmarks(
            serving, JobQueue(settings.benchmark_queue, errors.as_job_problem)
        )
        await serving.start()
        benchmarks.queue.start()
        yield
        await benchmarks.queue.close()
        await serving.close()

    app: FastAPI = FastAPIOffline(  # the documentation's assets come from us, not from a CDN
        title="ferserve",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.state.recognizer = app.state.benchmarks = None
    app.add_middleware(RequestContext)
    app.add_exception_handler(HTTPException, errors.handle)
    app.add_exception_handler(RequestValidationError, errors.handle)
    app.include_router(emotion.router)
    app.include_router(models.router)
    app.include_router(benchmark.router)
    app.include_router(health.router)
    app.add_api_route("/", _to_documentation, include_in_schema=False)
    return app


async def _to_documentation() -> RedirectResponse:
    return RedirectResponse("docs")


def _version() -> str:
    try:
        return version("ferserve")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"
