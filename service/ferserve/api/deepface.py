"""``POST /analyze``: a door for clients of DeepFace's API; see docs/deepface.md.

The shapes are those of the API server that comes with the Python package ``deepface`` (0.0.9x).
"""

import json
import re
from time import monotonic
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ferserve import errors
from ferserve.api.calls import BudgetDependency, RecognizerDependency, private, while_connected
from ferserve.api.openapi import IMAGE, SERVER_TIMING, UPLOADS, form_body, openapi_responses
from ferserve.api.parameters import describe_parameters, once, read_options, read_seconds
from ferserve.api.uploads import (
    FORM,
    JSON,
    JSON_COPIES,
    MAX_VALUES,
    decode_base64,
    media_type,
    read_body,
    read_form,
    read_json,
    read_text,
)
from ferserve.budget import Take
from ferserve.errors import InvalidParameter, MalformedRequest
from ferserve.schemas import DetectMode, EmotionOptions, FaceEmotion

PATH = "/analyze"

NAMES = ("img", "img_path")
"""Of the field that holds the image; the second in DeepFace 0.0.90 to 0.0.93."""

MAX_ESCAPES = 1 / 16
"""Most escapes a byte of a form: base64 has one for every 30. Each takes 100 bytes to decode."""

URLENCODED = "application/x-www-form-urlencoded"

_TEXT = re.compile(rb"[\x20-\x7e]{1,2048}")
"""What may be an address or a path; no image file is printable ASCII."""

_NO_REFERENCES = (
    "img: send the image itself, as a file or as a base64 data URI (data:image/jpeg;base64,…). "
    "Addresses and paths are not opened: callers could make the service read what only it can "
    "reach (server-side request forgery)"
)
_MAX_ACTIONS = 1000
"""Most characters of such a list: each word becomes an object."""

_NO_EFFECT = "Changes nothing: the crop is the one the networks were trained for."


def _split(actions: object) -> object:
    """Forms carry the list as text, in any of Python's and JSON's spellings."""
    if not isinstance(actions, str):
        return actions
    if len(actions) > _MAX_ACTIONS:
        raise ValueError(f"has more than {_MAX_ACTIONS} characters")
    return re.findall(r"\w+", actions)


class AnalyzeOptions(BaseModel):
    """What a DeepFace client asks for."""

    model_config = ConfigDict(extra="forbid")

    actions: Annotated[list[str], BeforeValidator(_split)] = Field(
        default=["emotion"], description="Only `emotion`."
    )
    enforce_detection: bool = Field(
        default=True,
        description="Whether an image without a face is an error; else the whole image is taken as "
        "one face, with a `face_confidence` of 0.",
    )
    detector_backend: str = Field(
        default="opencv",
        description="`skip` takes the whole image as one face; any other name means the service's "
        "own detector.",
    )
    anti_spoofing: bool = Field(default=False, description="Only `false`.")
    align: bool = Field(default=True, description=_NO_EFFECT)
    expand_percentage: int = Field(default=0, description=_NO_EFFECT)
    silent: bool = Field(default=False, description=_NO_EFFECT)

    def emotion_options(self) -> EmotionOptions:
        """Returns our own API's options; InvalidParameter if they ask for more than emotions."""
        others = sorted(set(self.actions) - {"emotion"})
        if others or not self.actions:
            raise InvalidParameter(
                f"actions: only emotion is offered, not {', '.join(others)[:200] or 'nothing'}; "
                "the service estimates no age, gender or race"
            )
        if self.anti_spoofing:
            raise InvalidParameter("anti_spoofing: the service cannot tell a photo from a person")
        detect: DetectMode = "false" if self.detector_backend == "skip" else "auto"
        return EmotionOptions(detect=detect, landmarks=True)


class Region(BaseModel):
    """Where a face is, in whole pixels of the upright image."""

    x: int
    y: int
    w: int
    h: int
    left_eye: tuple[int, int] | None = Field(description="The person's left, as DeepFace has it.")
    right_eye: tuple[int, int] | None


class AnalyzedFace(BaseModel):
    """A face and its apparent expression."""

    emotion: dict[str, float] = Field(description="Per cent, 0 to 100.")
    dominant_emotion: str
    region: Region
    face_confidence: float = Field(description="0 where no detector found the face.")


class AnalyzeResponse(BaseModel):
    """The faces of an image, largest first."""

    results: list[AnalyzedFace]


router = APIRouter(tags=["deepface"])

_FILE = {"type": "string", "format": "binary"}
_TEXT_OF_IT = {
    "type": "string",
    "description": "The image as a base64 data URI. DeepFace 0.0.90 to 0.0.93 call it `img_path`.",
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": form_body(AnalyzeOptions, NAMES[0], _FILE)
        | form_body(AnalyzeOptions, NAMES[0], _TEXT_OF_IT, JSON),
    }
}


@router.post(
    PATH,
    responses=SERVER_TIMING | openapi_responses(*UPLOADS, errors.NoFace, *IMAGE, path=PATH),
    openapi_extra=_BODY | describe_parameters(),
)
async def analyze(
    request: Request, response: Response, recognizer: RecognizerDependency, budget: BudgetDependency
) -> AnalyzeResponse:
    """Answers as DeepFace's `/analyze` does for `actions=["emotion"]`, with the default model.

    The image comes as a file, or as a base64 data URI in JSON or a form; addresses and paths are
    not opened. For all else there is `/v1/emotion`. The scores say how a face looks, not what the
    person feels. Nothing of the image is kept.
    """
    with budget.charge() as take:
        fields = await _read(request, recognizer.settings.max_upload_bytes, take)
        sent = [fields.pop(name, None) for name in NAMES]
        options = read_options(request, AnalyzeOptions, fields.items())
        asked = options.emotion_options()
        longest = recognizer.settings.request_timeout_ms / 1000
        end = monotonic() + min(read_seconds(request) or longest, longest)
        data = await run_in_threadpool(read_image, [img for img in sent if img])
        seen = await while_connected(request, recognizer.answer(data, asked, end - monotonic()))
        timing = dict(seen.timing_ms)
        if not seen.faces:
            if options.enforce_detection:
                raise errors.NoFace(  # DeepFace's own words: clients look for them
                    "Face could not be detected. Please confirm that the picture is a face photo "
                    "or consider to set enforce_detection param to False."
                )
            whole = asked.model_copy(update={"detect": "false"})
            seen = await while_connected(request, recognizer.answer(data, whole, end - monotonic()))
            timing = {stage: timing[stage] + spent for stage, spent in seen.timing_ms}
    response.headers.update(private(timing))
    return AnalyzeResponse(results=[analyzed(face) for face in seen.faces])


async def _read(request: Request, max_bytes: int, take: Take) -> dict[str, Any]:
    """Reads the fields of a request; the image of a form is bytes, that of a document any value."""
    kind = media_type(request)
    if kind == FORM:
        parts = await read_form(request, max_bytes, take)
        encoded = [part for name, part in parts if name in NAMES and part[:5].lower() == b"data:"]
        take(JSON_COPIES * sum(map(len, encoded)))
        return once(
            (name, content if name in NAMES else read_text(name, content))
            for name, content in parts
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
        raise MalformedRequest("the form has too many escapes")
    try:
        return once(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_VALUES))
    except ValueError as error:
        raise MalformedRequest("the body is not a form") from error


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest("the body is not JSON") from error
    if not isinstance(document, dict):
        raise MalformedRequest("the JSON body is not an object")
    return document


def read_image(sent: list[Any]) -> bytes:
    """Returns the image's bytes, whatever form it came in; addresses and paths are refused."""
    if len(sent) != 1:
        fault = "img_path is given as well" if sent else "it is missing"
        raise MalformedRequest(f"img: {fault}")
    (img,) = sent
    if isinstance(img, bytes):
        if img[:5].lower() != b"data:" and not _TEXT.fullmatch(img):
            return img
        img = img.decode("latin-1")
    if not isinstance(img, str):
        raise InvalidParameter("img: one image at a time; /v1/emotion/batch takes several")
    if img[:5].lower() != "data:":
        raise InvalidParameter(_NO_REFERENCES)
    return decode_base64(NAMES[0], img)


def analyzed(face: FaceEmotion) -> AnalyzedFace:
    """Says in DeepFace's words what was seen."""
    # Ours are left and right as in the picture, DeepFace's as the person has them.
    eyes = [(round(point.x), round(point.y)) for point in (face.landmarks or [])[:2]]
    right, left = eyes or (None, None)
    box = face.box
    return AnalyzedFace(
        emotion={name: 100 * value for name, value in face.emotions.items()},
        dominant_emotion=face.dominant_emotion,
        region=Region(x=box.x, y=box.y, w=box.width, h=box.height, left_eye=left, right_eye=right),
        face_confidence=face.face_confidence or 0.0,
    )
