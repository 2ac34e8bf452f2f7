"""``/v2``: the Open Inference Protocol, for clients that send faces as tensors."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from ferserve import errors
from ferserve.api.calls import (
    SERVER_TIMING,
    TimeoutHeader,
    private,
    seconds,
    upload_time,
    while_connected,
)
from ferserve.api.dependencies import BudgetDependency, RecognizerDependency
from ferserve.api.openapi import inline_schema, openapi_responses
from ferserve.api.uploads import read_body
from ferserve.card import ModelCard
from ferserve.inference_protocol import (
    PREFIX,
    InferenceProblem,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    read_request,
)

_TAG = "inference protocol"

health = APIRouter(prefix=f"{PREFIX}/health", tags=[_TAG])
router = APIRouter(prefix=PREFIX, tags=[_TAG])

_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"


def _responses(*kinds: type[errors.Refusal]) -> dict[int | str, dict[str, Any]]:
    instance = f"{PREFIX}/models/custom_cnn"
    return openapi_responses(*kinds, document=InferenceProblem, instance=instance)


_REFUSALS = (errors.Unauthorized, errors.RateLimited, errors.NotReady)
_OF_A_MODEL = (errors.NotFound, errors.InvalidParameter, *_REFUSALS)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": inline_schema(InferenceRequest)}},
    }
}


async def get_card(name: str, recognizer: RecognizerDependency) -> ModelCard:
    """Returns the card of the model that the path names.

    Raises:
        NotFound: It is not served.
    """
    cards = {card.name: card for card in recognizer.cards}
    if name not in cards:
        raise errors.NotFound(f"there is no model {name!r}; the models are: {', '.join(cards)}")
    return cards[name]


CardDependency = Annotated[ModelCard, Depends(get_card)]


def require_version(version: str, card: CardDependency) -> None:
    """Lets pass the version that is served.

    Raises:
        NotFound: It is another one.
    """
    if version != card.version:
        raise errors.NotFound(
            f"{card.name} has no version {version!r}; the version is: {card.version}"
        )


@health.get("/live")
async def server_live() -> ServerLive:
    """Says that the process answers."""
    return ServerLive(live=True)


@health.get("/ready", responses=_responses(errors.NotReady))
async def server_ready(recognizer: RecognizerDependency) -> ServerReady:
    """Says whether all models take work, as `/readyz` does."""
    if reason := recognizer.not_ready_reason:
        raise errors.NotReady(reason)
    return ServerReady(live=True, ready=True)


@router.get("", responses=_responses(*_REFUSALS))
async def server_metadata(request: Request) -> ServerMetadata:
    """Says what server this is."""
    return ServerMetadata(name="ferserve", version=request.app.version, extensions=[])


_of_version = [Depends(require_version)]
_metadata: dict[str, Any] = {
    "response_model_exclude_none": True,
    "responses": _responses(*_OF_A_MODEL),
}
_readiness: dict[str, Any] = {"responses": _responses(*_OF_A_MODEL)}
_inference: dict[str, Any] = {
    "response_model_exclude_none": True,
    "responses": SERVER_TIMING
    | _responses(
        errors.MalformedRequest,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.QueueFull,
        errors.InternalError,
        errors.DeadlineExceeded,
        *_OF_A_MODEL,
    ),
    "openapi_extra": _BODY,
}


@router.get(_MODEL, **_metadata)
@router.get(_VERSION, **_metadata, dependencies=_of_version)
async def model_metadata(card: CardDependency) -> ModelMetadata:
    """Says what a model takes and gives; `/v1/models` has its accuracy and limits."""
    return ModelMetadata.of(card)


@router.get(f"{_MODEL}/ready", **_readiness)
@router.get(f"{_VERSION}/ready", **_readiness, dependencies=_of_version)
async def model_ready(card: CardDependency, recognizer: RecognizerDependency) -> ModelReady:
    """Says whether a model takes work."""
    if recognizer.draining:
        raise errors.NotReady("the service is shutting down")
    if not recognizer.served(card.name).batcher.healthy:
        raise errors.NotReady(f"{card.name} is starting, or a worker of it died")
    return ModelReady(name=card.name, ready=True)


@router.post(f"{_MODEL}/infer", **_inference)
@router.post(f"{_VERSION}/infer", **_inference, dependencies=_of_version)
async def infer(
    request: Request,
    response: Response,
    card: CardDependency,
    recognizer: RecognizerDependency,
    budget: BudgetDependency,
    timeout_ms: TimeoutHeader = None,
) -> InferenceResponse:
    """Rates faces that are cut out already: grey, 48 by 48 pixels, as those of FER2013.

    Takes `faces`, UINT8 `[N, 48, 48]`, and gives `probabilities`, FP32 `[N, 7]`, whose columns the
    model's metadata names. All tensors are JSON. For photos there is `/v1/emotion`. The scores say
    how a face looks, not what the person feels. Nothing of the faces is kept.
    """
    _refuse_other_forms(request)
    settings = recognizer.settings
    with budget.request() as take:
        async with upload_time():
            body = await read_body(request, settings.max_upload_bytes, take)
        asked, faces = await run_in_threadpool(read_request, body, settings.max_queue)
        work = recognizer.rate(card.name, list(faces), seconds(timeout_ms))
        answers = await while_connected(request, work)
    timing = {
        "queue": 1000 * max(answer.queue_seconds for answer in answers),
        "inference": 1000 * max(answer.inference_seconds for answer in answers),
    }
    response.headers.update(private(timing))
    return InferenceResponse.of(card, asked, [answer.value for answer in answers])


def _refuse_other_forms(request: Request) -> None:
    """Names what clients do by default and we do not take, before their bytes fail to be JSON."""
    if "inference-header-content-length" in request.headers:
        raise errors.UnsupportedMediaType(
            "binary tensors are not supported: send JSON; tritonclient does so with "
            "set_data_from_numpy(…, binary_data=False)"
        )
