"""The application in this process, with its life cycle, behind an httpx client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
from ferserve.api.app import create_app
from ferserve.benchmark.schemas import BenchmarkDetails, Links
from ferserve.settings import Settings


@asynccontextmanager
async def serving(models_dir: Path, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """Serves with these settings, on the processor; ``client.app`` is the application."""
    app = create_app(Settings(models_dir=models_dir, **{"provider": "cpu"} | settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        client.app = app
        yield client


def queued() -> BenchmarkDetails:
    """A benchmark that waits."""
    job_id = uuid4().hex
    path = f"/v1/benchmark/{job_id}"
    links = Links(self=path, events=f"{path}/events", report=f"{path}/report")
    return BenchmarkDetails(id=job_id, source="operator", models=["first"], links=links)
