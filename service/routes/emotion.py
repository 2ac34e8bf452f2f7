"""``/v1/emotion`` and ``/v1/emotion/batch``: images in, faces and their expressions out."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.requests import ClientDisconnect

from service import errors
from service.openapi import openapi_responses
from service.routes.dependencies import BudgetDependency, RecognizerDependency
from service.routes.uploads import FIELD, FILES, read_image, read_images
from service.schemas import (
    BatchResponse,
    EmotionOptions,
    EmotionResponse,
    ImageDocument,
    ItemProblem,
    ItemResult,
    Recognition,
    Timing,
)

T = TypeVar("T")

UPLOAD_SECONDS = 120
"""Longest time from a request's head to the end of its body."""

router = APIRouter(prefix="/v1/emotion", tags=["emotion"])

TimeoutHeader = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        description="Shortens the service's own limit, from a whole upload to its answer, ms.",
    ),
]

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "One image: JPEG, PNG, WebP, GIF, BMP or TIFF, told by its content. "
        "Of an animation the first frame is taken.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: _BINARY["schema"]},
                }
            },
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "application/json": {
                "schema": ImageDocument.model_json_schema(),
                "examples": {
                    "base64": {"value": {"image": "iVBORw0KGgoAAAANSUhEUgAA…"}},
                    "data URI": {"value": {"image": "data:image/jpeg;base64,/9j/4AAQSkZJRg…"}},
                },
            },
        },
    }
}
_IMAGES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILES],
                    "properties": {
                        FILES: {"type": "array", "minItems": 1, "items": _BINARY["schema"]}
                    },
                }
            }
        },
    }
}

_SERVER_TIMING: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Server-Timing": {
                "description": "Where the time went, milliseconds.",
                "schema": {"type": "string"},
                "example": "decode;dur=1.2, detect;dur=15.0, total;dur=18.9",
            }
        }
    }
}
_PROBLEMS = (
    errors.MalformedRequest,
    errors.Unauthorized,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.UnknownModel,
    errors.InvalidParameter,
    errors.QueueFull,
    errors.RateLimited,
    errors.InternalError,
    errors.NotReady,
    errors.DeadlineExceeded,
)


@router.post(
    "",
    response_model_exclude_unset=True,
    responses=_SERVER_TIMING
    | openapi_responses(
        *_PROBLEMS,
        errors.TooManyPixels,
        errors.UndecodableImage,
        errors.ImageTooSmall,
    ),
    openapi_extra=_IMAGE_BODY,
)
async def recognize_emotion(
    request: Request,
    response: Response,
    options: Annotated[EmotionOptions, Query()],
    recognizer: RecognizerDependency,
    budget: BudgetDependency,
    timeout_ms: TimeoutHeader = None,
) -> EmotionResponse:
    """Finds the faces of an image and rates the apparent expression of each.

    An image with no face is answered with an empty list. The scores say how a face looks, not
    what the person feels. Nothing of the image is kept.
    """
    with budget.request() as take:
        async with _upload_time():
            data = await read_image(request, recognizer.settings.max_upload_bytes, take)
        work = recognizer.recognize(data, options, _seconds(timeout_ms))
        recognition = await _while_connected(request, work)
    response.headers.update(_private(recognition.timing_ms))
    return EmotionResponse(request_id=request.state.request_id, **dict(recognition))


@router.post(
    "/batch",
    response_model_exclude_unset=True,
    responses=_SERVER_TIMING | openapi_responses(*_PROBLEMS, errors.TooManyImages),
    openapi_extra=_IMAGES_BODY,
)
async def recognize_emotions(
    request: Request,
    response: Response,
    options: Annotated[EmotionOptions, Query()],
    recognizer: RecognizerDependency,
    budget: BudgetDependency,
    timeout_ms: TimeoutHeader = None,
) -> BatchResponse:
    """Answers several images at once: `items` in the order of the files.

    Each item has a `result`, as `/v1/emotion` would answer it, or a `problem`: one bad image
    never costs the others. Only where the service could answer none of them does the whole
    request fail.
    """
    settings = recognizer.settings
    with budget.request() as take:
        async with _upload_time():
            images = await read_images(
                request, settings.max_batch_upload_bytes, settings.max_images, take
            )
        work = recognizer.recognize_many(images, options, _seconds(timeout_ms))
        outcomes = await _while_connected(request, work)
    _refuse_if_all_failed(outcomes)
    answered = [outcome.timing_ms for outcome in outcomes if isinstance(outcome, Recognition)]
    if answered:
        response.headers.update(_private(max(answered, key=lambda timing: timing.total)))
    return BatchResponse(
        request_id=request.state.request_id,
        items=[
            ItemResult(result=outcome)
            if isinstance(outcome, Recognition)
            else ItemProblem(problem=errors.describe(request, outcome))
            for outcome in outcomes
        ],
    )


@asynccontextmanager
async def _upload_time() -> AsyncIterator[None]:
    """Ends an upload that holds memory for too long."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            yield
    except TimeoutError:
        raise errors.DeadlineExceeded("the upload took too long") from None


def _refuse_if_all_failed(outcomes: list[Recognition | Exception]) -> None:
    """Lets callers see overload and faults in the status where no image was answered."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    ours = (429, 500, 503, 504)
    if len(failures) == len(outcomes) and all(
        errors.as_problem(failure).status in ours for failure in failures
    ):
        raise failures[0]


def _seconds(timeout_ms: int | None) -> float | None:
    # However many digits it has: no setting allows a day.
    return None if timeout_ms is None else min(timeout_ms, 86_400_000) / 1000


def _private(timing: Timing) -> dict[str, str]:
    """Headers of an answer about a face: how long it took, and that no cache may keep it."""
    durations = (f"{name};dur={value:.1f}" for name, value in timing.model_dump().items())
    return {"Server-Timing": ", ".join(durations), "Cache-Control": "no-store"}


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits ``work``, but cancels it when the client leaves.

    Raises:
        ClientDisconnect: The client left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
