"""``/v1/emotion`` and ``/v1/emotion/batch``: images in, faces and their expressions out."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ferserve import errors
from ferserve.api.calls import private, while_connected
from ferserve.api.openapi import IMAGE, SERVER_TIMING, UPLOADS, form_body, openapi_responses
from ferserve.api.parameters import describe_parameters, read_options, read_seconds
from ferserve.api.problems import as_refusal, describe
from ferserve.api.uploads import FIELD, FILES, JSON, read_image, read_images
from ferserve.budget import UploadBudget
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import (
    BatchResponse,
    EmotionOptions,
    EmotionResponse,
    ImageDocument,
    ItemProblem,
    ItemResult,
    Recognition,
    Timing,
)

OUR_FAULTS = {429, 500, 503, 504}
"""Overload and faults, which a batch shows in its own status where no image was answered."""

router = APIRouter(prefix="/v1/emotion", tags=["emotion"])

_BINARY = {"type": "string", "format": "binary"}
_IMAGES = {"type": "array", "minItems": 1, "items": _BINARY}
_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "One image: JPEG, PNG, WebP, GIF, BMP or TIFF, told by its content. "
        "Of an animation the first frame is taken.",
        "content": form_body(EmotionOptions, FIELD, _BINARY)
        | {
            "image/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
            JSON: {
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
    "requestBody": {"required": True, "content": form_body(EmotionOptions, FILES, _IMAGES)}
}
_PARAMETERS = describe_parameters(EmotionOptions)


@router.post(
    "",
    response_model=EmotionResponse,
    responses=SERVER_TIMING | openapi_responses(*UPLOADS, errors.UnknownModel, *IMAGE),
    openapi_extra=_IMAGE_BODY | _PARAMETERS,
)
async def recognize_emotion(request: Request) -> Response:
    """Finds the faces of an image and rates the apparent expression of each.

    Options come in the query or as fields of the form.
    An image with no face is answered with an empty list. The scores say how a face looks, not
    what the person feels. Nothing of the image is kept.
    """
    recognizer, budget = _parts(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    with budget.charge() as take:
        data, fields = await read_image(request, recognizer.settings.max_upload_bytes, take)
        if fields:
            options = read_options(request, EmotionOptions, fields)
        work = recognizer.answer(data, options, seconds)
        recognition = await while_connected(request, work)
    answer = EmotionResponse(request_id=request.state.request_id, **dict(recognition))
    return _respond(answer, recognition.timing_ms)


@router.post(
    "/batch",
    response_model=BatchResponse,
    responses=SERVER_TIMING
    | openapi_responses(*UPLOADS, errors.UnknownModel, errors.TooManyImages),
    openapi_extra=_IMAGES_BODY | _PARAMETERS,
)
async def recognize_emotions(request: Request) -> Response:
    """Answers several images at once: `items` in the order of the files.

    Each item has a `result`, as `/v1/emotion` would answer it, or a `problem`: one bad image
    never costs the others. Only where the service could answer none of them does the whole
    request fail.
    """
    recognizer, budget = _parts(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    settings = recognizer.settings
    with budget.charge() as take:
        max_bytes = settings.max_batch_upload_bytes
        images, fields = await read_images(request, max_bytes, settings.max_images, take)
        if fields:
            options = read_options(request, EmotionOptions, fields)
        work = recognizer.answer_many(images, options, seconds)
        outcomes = await while_connected(request, work)
    seen = [outcome for outcome in outcomes if isinstance(outcome, Recognition)]
    statuses = {as_refusal(one).status for one in outcomes if isinstance(one, Exception)}
    if not seen and statuses <= OUR_FAULTS and isinstance(outcomes[0], Exception):
        raise outcomes[0]
    answer = BatchResponse(
        request_id=request.state.request_id,
        items=[
            ItemResult(result=outcome)
            if isinstance(outcome, Recognition)
            else ItemProblem(problem=describe(request, outcome))
            for outcome in outcomes
        ],
    )
    slowest = max((one.timing_ms for one in seen), key=lambda timing: timing.total, default=None)
    return _respond(answer, slowest)


def _parts(request: Request) -> tuple[AsyncRecognizer, UploadBudget]:
    return request.app.state.recognizer, request.app.state.upload_budget


def _respond(answer: BaseModel, timing: Timing | None) -> Response:
    """Writes an answer whose model has checked it already: FastAPI would do so once more."""
    return Response(
        answer.model_dump_json(exclude_unset=True),
        headers=private(dict(timing)) if timing else None,
        media_type=JSON,
    )
