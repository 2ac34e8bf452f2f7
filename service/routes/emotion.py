"""``POST /v1/emotion``: one image in, its faces and their apparent expressions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from service import errors
from service.routes.dependencies import RecognizerDependency
from service.routes.uploads import FIELD, read_image
from service.schemas import EmotionOptions, EmotionResponse, ImageDocument

T = TypeVar("T")

router = APIRouter(prefix="/v1", tags=["emotion"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_REQUEST_BODY = {
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


@router.post(
    "/emotion",
    response_model_exclude_unset=True,
    responses=errors.openapi_responses(
        errors.MalformedRequest,
        errors.PayloadTooLarge,
        errors.TooManyPixels,
        errors.UnsupportedMediaType,
        errors.UndecodableImage,
        errors.ImageTooSmall,
        errors.UnknownModel,
        errors.InvalidParameter,
        errors.QueueFull,
        errors.InternalError,
        errors.NotReady,
        errors.DeadlineExceeded,
    ),
    openapi_extra=_REQUEST_BODY,
)
async def recognize_emotion(
    request: Request,
    options: Annotated[EmotionOptions, Query()],
    recognizer: RecognizerDependency,
) -> EmotionResponse:
    """Finds the faces of an image and rates the apparent expression of each.

    An image with no face is answered with an empty list. The scores say how a face looks, not
    what the person feels. Nothing of the image is kept.
    """
    data = await read_image(request, recognizer.settings.max_upload_bytes)
    recognition = await _while_connected(request, recognizer.recognize(data, options))
    return EmotionResponse(request_id=request.state.request_id, **dict(recognition))


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
