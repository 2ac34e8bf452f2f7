"""``POST /analyze``: a door for clients of DeepFace's API; see docs/deepface.md."""

import json
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from python_multipart.multipart import parse_options_header

from ferserve import errors
from ferserve.api.calls import SERVER_TIMING, private, upload_time, while_connected
from ferserve.api.dependencies import BudgetDependency, RecognizerDependency
from ferserve.api.openapi import inline_schema, openapi_responses
from ferserve.api.parameters import once, read_options
from ferserve.api.uploads import Take, decode_base64, read_body, read_form
from ferserve.deepface import (
    PATH,
    AnalyzeDocument,
    AnalyzeOptions,
    AnalyzeProblem,
    AnalyzeResponse,
    is_text,
    require_data_uri,
    require_faces,
)

IMAGE = "img"
"""Name of the field that holds the image."""

IMAGE_UNTIL_0_0_93 = "img_path"
"""Its name in DeepFace 0.0.93 and before."""

MAX_VALUES = 1000
"""Most values in a body, beside which the image is one."""

router = APIRouter(tags=["deepface"])

_FORM = inline_schema(AnalyzeOptions)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _FORM
                | {
                    "required": [IMAGE],
                    "properties": {
                        IMAGE: {"type": "string", "format": "binary"},
                        **_FORM["properties"],
                    },
                }
            },
            "application/json": {"schema": inline_schema(AnalyzeDocument)},
        },
    }
}


@router.post(
    PATH,
    responses=SERVER_TIMING
    | openapi_responses(
        errors.MalformedRequest,
        errors.NoFace,
        errors.Unauthorized,
        errors.PayloadTooLarge,
        errors.TooManyPixels,
        errors.UnsupportedMediaType,
        errors.UndecodableImage,
        errors.ImageTooSmall,
        errors.InvalidParameter,
        errors.QueueFull,
        errors.RateLimited,
        errors.InternalError,
        errors.NotReady,
        errors.DeadlineExceeded,
        document=AnalyzeProblem,
        instance=PATH,
    ),
    openapi_extra=_BODY,
)
async def analyze(
    request: Request,
    response: Response,
    recognizer: RecognizerDependency,
    budget: BudgetDependency,
) -> AnalyzeResponse:
    """Answers as DeepFace's `/analyze` does for `actions=["emotion"]`, with the default model.

    The image comes as a file, or as a base64 data URI in JSON or a form; addresses and paths are
    not opened. For all else there is `/v1/emotion`. The scores say how a face looks, not what the
    person feels. Nothing of the image is kept.
    """
    with budget.request() as take:
        async with upload_time():
            fields = await _read(request, recognizer.settings.max_upload_bytes, take)
        sent = [fields.pop(name, None) for name in (IMAGE, IMAGE_UNTIL_0_0_93)]
        options = read_options(request, AnalyzeOptions, fields.items()).require_supported()
        data = await run_in_threadpool(_image, [img for img in sent if img])
        asked = options.emotion_options()
        seen = await while_connected(request, recognizer.answer(data, asked))
        if options.enforce_detection:
            require_faces(seen)
        elif not seen.faces:
            whole = asked.model_copy(update={"detect": "false"})
            seen = await while_connected(request, recognizer.answer(data, whole))
    response.headers.update(private(seen.timing_ms.model_dump()))
    return AnalyzeResponse.of(seen)


async def _read(request: Request, max_bytes: int, take: Take) -> dict[str, Any]:
    """Reads the fields of a request; the image of a form is bytes, that of a document any value."""
    parsed, _ = parse_options_header(request.headers.get("content-type", ""))
    media_type = parsed.decode("latin-1").lower()
    if media_type == "multipart/form-data":
        parts = await read_form(request, max_bytes, take)
        images = (IMAGE, IMAGE_UNTIL_0_0_93)
        return once(
            (name, content if name in images else content.decode(errors="replace"))
            for name, content in parts
        )
    body = await read_body(request, max_bytes, take)
    if media_type == "application/json":
        return await run_in_threadpool(_parse, body)
    if media_type == "application/x-www-form-urlencoded":
        return await run_in_threadpool(_parse_form, body)
    raise errors.UnsupportedMediaType(
        "send multipart/form-data with a file 'img', or application/json"
    )


def _parse_form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_VALUES)
    except ValueError as error:
        raise errors.MalformedRequest("the body is no form") from error
    return once(pairs)


def _parse(body: bytes) -> dict[str, Any]:
    # Python's objects can take thirty times the memory of the text that they are made from.
    if sum(body.count(sign) for sign in b"[{,") > MAX_VALUES:
        raise errors.MalformedRequest("the JSON body has too many values")
    try:
        document = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise errors.MalformedRequest("the body is not JSON") from error
    if not isinstance(document, dict):
        raise errors.MalformedRequest("the JSON body is no object")
    return document


def _image(sent: list[Any]) -> bytes:
    """Returns the image's bytes, whatever form it came in."""
    if len(sent) != 1:
        fault = "img_path is there, too" if sent else "there is none"
        raise errors.MalformedRequest(f"img: {fault}")
    (img,) = sent
    if isinstance(img, bytes):
        if not is_text(img):
            return img
        img = img.decode("latin-1")
    if not isinstance(img, str):
        raise errors.InvalidParameter("img: one image at a time; /v1/emotion/batch takes several")
    return decode_base64(IMAGE, require_data_uri(img))
