"""The application of ``ferserve.api.app`` on models whose replicas are other processes."""

import asyncio
from collections.abc import Mapping

from fastapi import FastAPI
from ray import serve

from ferserve import logs
from ferserve.api.app import create_app
from ferserve.cluster.metrics import ClusterMetrics, metrics_here
from ferserve.cluster.remote import connect
from ferserve.recognizer import AsyncRecognizer
from ferserve.settings import Settings


def model_deployment(name: str) -> str:
    """Returns the name of a model's deployment."""
    return f"model-{name}"


async def make_front(
    settings: Settings, versions: Mapping[str, str]
) -> tuple[FastAPI, ClusterMetrics]:
    """Makes the application, once every model answers.

    Args:
        settings: As for one process.
        versions: The sha256 of each model, by name.
    """
    logs.configure(settings.log_format)
    metrics = metrics_here(count_emotions=settings.metrics_emotions)
    models = await asyncio.gather(
        *(
            connect(serve.get_deployment_handle(model_deployment(name)), sha256, metrics)
            for name, sha256 in versions.items()
        )
    )
    recognizer = AsyncRecognizer(settings, metrics, dict(zip(versions, models, strict=True)))
    return create_app(settings, recognizer, metrics), metrics
