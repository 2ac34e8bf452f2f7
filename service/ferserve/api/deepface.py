"""``POST /analyze``: a door for clients of DeepFace's API; see docs/deepface.md."""

import json
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from ferserve import errors
from ferserve.api.budget import Charge
from ferserve.api.calls import (
    SERVER_TIMING,
    BudgetDependency,
    RecognizerDependency,
    private,
    while_connected,
)
from ferserve.api.openapi import IMAGE, UPLOADS, form_body, inline_schema, openapi_responses
from ferserve.api.parameters import once, read_options
from ferserve.api.uploads import (
    FORM,
    JSON,
    JSON_COPIES,
    MAX_VALUES,
    Take,
    decode_base64,
    media_type,
    read_body,
    read_form,
    read_json,
    read_text,
)
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

NAMES = ("img", "img_path")
"""Of the field that holds the image; the second in DeepFace 0.0.90 to 0.0.93."""

MAX_ESCAPES = 1 / 16
"""Most escapes a byte of a form: base64 has one for every 30. Each takes 100 bytes to decode."""

URLENCODED = "application/x-www-form-urlencoded"

router = APIRouter(tags=["deepface"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": form_body(AnalyzeOptions, NAMES[0], {"type": "string", "format": "binary"})
        | {JSON: {"schema": inline_schema(AnalyzeDocument)}},
    }
}


@router.post(
    PATH,
    responses=SERVER_TIMING
    | openapi_responses(*UPLOADS, errors.NoFace, *IMAGE, document=AnalyzeProblem, instance=PATH),
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
    with Charge(budget) as take:
        fields = await _read(request, recognizer.settings.max_upload_bytes, take)
        sent = [fields.pop(name, None) for name in NAMES]
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
    kind = media_type(request)
    if kind == FORM:
        return once(
            (name, content if name in NAMES else read_text(name, content))
            for name, content in await read_form(request, max_bytes, take)
        )
    if kind == JSON:
        return await run_in_threadpool(_parse, await read_json(request, max_bytes, take))
    if kind == URLENCODED:
        body = await read_body(request, max_bytes, take)
        take(JSON_COPIES * len(body))
        return await run_in_threadpool(_parse_form, body)
    raise errors.UnsupportedMediaType(
        "send multipart/form-data with a file 'img', or application/json"
    )


def _parse_form(body: bytes) -> dict[str, Any]:
    if body.count(b"%") > MAX_ESCAPES * len(body) + MAX_VALUES:
        raise errors.MalformedRequest("the form has too many escapes")
    try:
        return once(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_VALUES))
    except ValueError as error:
        raise errors.MalformedRequest("the body is no form") from error


def _parse(body: bytes) -> dict[str, Any]:
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
    return decode_base64(NAMES[0], require_data_uri(img))
