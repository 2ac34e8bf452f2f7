"""``GET /metrics``, for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from ferserve.api.openapi import openapi_responses
from ferserve.errors import Unauthorized

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse, responses=openapi_responses(Unauthorized))
async def get_metrics(request: Request) -> PlainTextResponse:
    """Returns counts and times in Prometheus' text format."""
    page = request.app.state.metrics.render()
    return PlainTextResponse(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)
