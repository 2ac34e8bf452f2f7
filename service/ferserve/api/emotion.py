"""``/v1/emotion`` and ``/v1/emotion/batch``: images in, faces and their expressions out."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ferserve import errors
from ferserve.api.calls import SERVER_TIMING, private, upload_time, while_connected
from ferserve.api.dependencies import get_budget, get_recognizer
from ferserve.api.openapi import inline_schema, openapi_responses
from ferserve.api.parameters import describe_parameters, read_options, read_seconds
from ferserve.api.problems import as_refusal, describe
from ferserve.api.uploads import FIELD, FILES, read_image, read_images
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

router = APIRouter(prefix="/v1/emotion", tags=["emotion"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_OPTIONS = inline_schema(EmotionOptions)["properties"]

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
                    "properties": {FIELD: _BINARY["schema"]} | _OPTIONS,
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
                    }
                    | _OPTIONS,
                }
            }
        },
    }
}

_PARAMETERS = describe_parameters(EmotionOptions)

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
    response_model=EmotionResponse,
    responses=SERVER_TIMING
    | openapi_responses(
        *_PROBLEMS,
        errors.TooManyPixels,
        errors.UndecodableImage,
        errors.ImageTooSmall,
    ),
    openapi_extra=_IMAGE_BODY | _PARAMETERS,
)
async def recognize_emotion(request: Request) -> Response:
    """Finds the faces of an image and rates the apparent expression of each.

    Options come in the query or as fields of the form.
    An image with no face is answered with an empty list. The scores say how a face looks, not
    what the person feels. Nothing of the image is kept.
    """
    recognizer, budget = await get_recognizer(request), await get_budget(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    with budget.request() as take:
        async with upload_time():
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
    responses=SERVER_TIMING | openapi_responses(*_PROBLEMS, errors.TooManyImages),
    openapi_extra=_IMAGES_BODY | _PARAMETERS,
)
async def recognize_emotions(request: Request) -> Response:
    """Answers several images at once: `items` in the order of the files.

    Each item has a `result`, as `/v1/emotion` would answer it, or a `problem`: one bad image
    never costs the others. Only where the service could answer none of them does the whole
    request fail.
    """
    recognizer, budget = await get_recognizer(request), await get_budget(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    settings = recognizer.settings
    with budget.request() as take:
        async with upload_time():
            images, fields = await read_images(
                request, settings.max_batch_upload_bytes, settings.max_images, take
            )
        if fields:
            options = read_options(request, EmotionOptions, fields)
        work = recognizer.answer_many(images, options, seconds)
        outcomes = await while_connected(request, work)
    _refuse_if_all_failed(outcomes)
    answer = BatchResponse(
        request_id=request.state.request_id,
        items=[
            ItemResult(result=outcome)
            if isinstance(outcome, Recognition)
            else ItemProblem(problem=describe(request, outcome))
            for outcome in outcomes
        ],
    )
    timings = [outcome.timing_ms for outcome in outcomes if isinstance(outcome, Recognition)]
    return _respond(answer, max(timings, key=lambda timing: timing.total, default=None))


def _respond(answer: BaseModel, timing: Timing | None) -> Response:
    """Writes an answer whose model has checked it already: FastAPI would do so once more."""
    return Response(
        answer.model_dump_json(exclude_unset=True),
        headers=private(dict(timing)) if timing else None,
        media_type="application/json",
    )


def _refuse_if_all_failed(outcomes: list[Recognition | Exception]) -> None:
    """Lets callers see overload and faults in the status where no image was answered."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    ours = (429, 500, 503, 504)
    if len(failures) == len(outcomes) and all(
        as_refusal(failure).status in ours for failure in failures
    ):
        raise failures[0]
