"""``/v2``: the Open Inference Protocol, for clients that send faces as tensors."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from ferserve import errors
from ferserve.api.budget import Charge
from ferserve.api.calls import (
    SERVER_TIMING,
    BudgetDependency,
    CardDependency,
    RecognizerDependency,
    TimeoutHeader,
    private,
    seconds,
    while_connected,
)
from ferserve.api.openapi import GUARDED, UPLOADS, inline_schema, openapi_responses
from ferserve.api.uploads import JSON, JSON_COPIES, read_body
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

health = APIRouter(prefix=f"{PREFIX}/health", tags=["inference protocol"])
router = APIRouter(prefix=PREFIX, tags=["inference protocol"])


async def require_version(version: str, card: CardDependency) -> None:
    """Lets pass the version that is served.

    Raises:
        NotFound: It is another one.
    """
    if version != card.version:
        raise errors.NotFound(
            f"{card.name} has no version {version!r}; the version is: {card.version}"
        )


def _responses(*kinds: type[errors.Refusal]) -> dict[int | str, dict[str, Any]]:
    instance = f"{PREFIX}/models/custom_cnn"
    return openapi_responses(*kinds, document=InferenceProblem, instance=instance)


_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"
_OF_A_MODEL = _responses(errors.NotFound, errors.InvalidParameter, *GUARDED)
_of_version = [Depends(require_version)]
_metadata: dict[str, Any] = {"response_model_exclude_none": True, "responses": _OF_A_MODEL}
_inference: dict[str, Any] = {
    "response_model_exclude_none": True,
    "responses": SERVER_TIMING | _responses(errors.NotFound, *UPLOADS),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": inline_schema(InferenceRequest)}},
        }
    },
}


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


@router.get("", responses=_responses(*GUARDED))
async def server_metadata(request: Request) -> ServerMetadata:
    """Says what server this is."""
    return ServerMetadata(name="ferserve", version=request.app.version, extensions=[])


@router.get(_MODEL, **_metadata)
@router.get(_VERSION, **_metadata, dependencies=_of_version)
async def model_metadata(card: CardDependency) -> ModelMetadata:
    """Says what a model takes and gives; `/v1/models` has its accuracy and limits."""
    return ModelMetadata.of(card)


@router.get(f"{_MODEL}/ready", responses=_OF_A_MODEL)
@router.get(f"{_VERSION}/ready", responses=_OF_A_MODEL, dependencies=_of_version)
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
    if "inference-header-content-length" in request.headers:
        raise errors.UnsupportedMediaType(  # what clients do by default, before it fails to be JSON
            "binary tensors are not supported: send JSON; tritonclient does so with "
            "set_data_from_numpy(…, binary_data=False)"
        )
    settings = recognizer.settings
    with Charge(budget) as take:
        body = await read_body(request, settings.max_upload_bytes, take)
        take(JSON_COPIES * len(body))
        asked, faces = await run_in_threadpool(read_request, body, settings.max_queue)
        work = recognizer.rate(card.name, list(faces), seconds(timeout_ms))
        answers = await while_connected(request, work)
    timing = {
        "queue": 1000 * max(answer.queue_seconds for answer in answers),
        "inference": 1000 * max(answer.inference_seconds for answer in answers),
    }
    response.headers.update(private(timing))
    return InferenceResponse.of(card, asked, [answer.value for answer in answers])
