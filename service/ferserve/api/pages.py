"""Small ``GET`` routes: the demo page, health, metrics, the models' cards and the policy."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ferserve.api.calls import CardDependency, RecognizerDependency
from ferserve.api.openapi import GUARDED, openapi_responses
from ferserve.card import ModelCard
from ferserve.errors import ForbiddenOrigin, InvalidParameter, NotFound, NotReady, Unauthorized
from ferserve.policy import Policy, policy
from ferserve.schemas import Health, ModelList

WEB = Path(__file__).resolve().parents[1] / "web"

_HEADERS = {
    # Stricter than the other pages', whose scripts and styles are within them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    # Both together let the private mode have threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}

router = APIRouter()
metrics = APIRouter(tags=["health"])
models = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("/", include_in_schema=False)
async def get_page() -> HTMLResponse:
    """Returns the demo page; it offers the private mode where ``make site`` has built it."""
    html = (WEB / "index.html").read_text()
    if (WEB / "static" / "private").is_dir():
        html = html.replace("<html ", '<html data-private="offered" ', 1)
    camera = {"Permissions-Policy": "camera=(self), microphone=(), geolocation=()"}
    return HTMLResponse(html, headers=_HEADERS | camera)


class PageFiles(StaticFiles):
    """The page's scripts, styles and pictures; ``make site`` builds those of the private mode."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Returns a file; browsers ask each time, so that no two versions of the page mix."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


@router.get("/livez", tags=["health"], responses=openapi_responses(ForbiddenOrigin))
async def live() -> Health:
    """Says that the process answers; restart it when this fails."""
    return Health(status="live")


@router.get("/readyz", tags=["health"], responses=openapi_responses(ForbiddenOrigin, NotReady))
async def ready(recognizer: RecognizerDependency) -> Health:
    """Says whether to send work here.

    Not while models warm up, a worker is dead, all decoders are overdue or it shuts down.
    """
    if reason := recognizer.not_ready_reason:
        raise NotReady(reason)
    return Health(status="ready")


@metrics.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=openapi_responses(Unauthorized, ForbiddenOrigin),
)
async def get_metrics(request: Request) -> PlainTextResponse:
    """Returns counts and times in Prometheus' text format."""
    page = generate_latest(request.app.state.metrics.registry)
    return PlainTextResponse(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)


@models.get("", responses=openapi_responses(*GUARDED))
async def list_models(recognizer: RecognizerDependency) -> ModelList:
    """Lists the served models: training, accuracy by split, limits, hash, licences."""
    return await recognizer.models()


@models.get("/{name}", responses=openapi_responses(NotFound, InvalidParameter, *GUARDED))
async def get_model(card: CardDependency) -> ModelCard:
    """Returns one model's card."""
    return card


@router.get("/v1/policy", tags=["policy"], responses=openapi_responses(ForbiddenOrigin, NotReady))
async def get_policy(recognizer: RecognizerDependency) -> Policy:
    """Says what the scores mean, where the law forbids their use, and what is logged."""
    return policy(recognizer.settings)
