"""``GET /livez`` and ``GET /readyz``."""

from fastapi import APIRouter

from ferserve.api.dependencies import RecognizerDependency
from ferserve.api.openapi import openapi_responses
from ferserve.errors import NotReady
from ferserve.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/livez")
async def live() -> Health:
    """Says that the process answers; restart it when this fails."""
    return Health(status="live")


@router.get("/readyz", responses=openapi_responses(NotReady))
async def ready(recognizer: RecognizerDependency) -> Health:
    """Says whether to send work here.

    Not before every model is warm, not while shutting down, not after a worker died.
    """
    if reason := recognizer.not_ready_reason:
        raise NotReady(reason)
    return Health(status="ready")
