"""``/v1/emotion`` and ``/v1/emotion/batch``: images in, faces and their expressions out."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ferserve import errors
from ferserve.api.budget import Charge
from ferserve.api.calls import (
    SERVER_TIMING,
    get_budget,
    get_recognizer,
    private,
    while_connected,
)
from ferserve.api.openapi import IMAGE, UPLOADS, form_body, openapi_responses
from ferserve.api.parameters import describe_parameters, read_options, read_seconds
from ferserve.api.problems import as_refusal, describe
from ferserve.api.uploads import FIELD, FILES, JSON, read_image, read_images
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
    recognizer, budget = await get_recognizer(request), await get_budget(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    with Charge(budget) as take:
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
    recognizer, budget = await get_recognizer(request), await get_budget(request)
    options, seconds = read_options(request, EmotionOptions), read_seconds(request)
    settings = recognizer.settings
    with Charge(budget) as take:
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
        media_type=JSON,
    )


def _refuse_if_all_failed(outcomes: list[Recognition | Exception]) -> None:
    """Lets callers see overload and faults in the status where no image was answered."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    ours = (429, 500, 503, 504)
    if len(failures) == len(outcomes) and all(as_refusal(one).status in ours for one in failures):
        raise failures[0]
