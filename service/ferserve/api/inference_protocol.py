"""``/v2``: the Open Inference Protocol, for clients that send faces as tensors.

The protocol, also called KServe's V2, is that of ``specification/protocol/inference_rest.md`` of
github.com/kserve/open-inference-protocol; Triton, MLServer and OpenVINO's server speak it too.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, ValidationError

from ferserve import errors
from ferserve.api.calls import (
    BudgetDependency,
    CardDependency,
    RecognizerDependency,
    private,
    while_connected,
)
from ferserve.api.openapi import GUARDED, SERVER_TIMING, UPLOADS, inline_schema, openapi_responses
from ferserve.api.parameters import describe_parameters, read_seconds
from ferserve.api.uploads import JSON, JSON_COPIES, read_body
from ferserve.errors import ForbiddenOrigin, InvalidParameter, MalformedRequest, NotReady
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.models import INPUT, OUTPUT
from ferserve.schemas import describe_faults
from ferserve.serving import IMAGE_WORK

OTHER_FORMS = ("binary_data_size", "shared_memory_region")
"""Parameters of a tensor whose values are not in ``data``: Triton's extensions, not offered."""

_VALUES_PER_FACE = FACE_SIDE * (FACE_SIDE + 1) + 1
_OTHER_VALUES = 1000

Parameters = dict[str, bool | int | float | str]


class RequestInput(BaseModel):
    """A tensor that is sent."""

    name: str = Field(description=f"`{INPUT}`.", examples=[INPUT])
    shape: list[StrictInt] = Field(
        description="`[N, 48, 48]`.", examples=[[1, FACE_SIDE, FACE_SIDE]], fail_fast=True
    )
    datatype: str = Field(description="`UINT8`.", examples=["UINT8"])
    parameters: Parameters = Field(default={}, description="Ignored; Triton's extensions get 422.")
    data: Any = Field(
        default=None,
        description="Grey values, 0 to 255, in rows from the top left: nested as the shape says, "
        "or flat.",
        json_schema_extra={"type": "array", "items": {}},
    )


class RequestedOutput(BaseModel):
    """A tensor that is asked for."""

    name: str = Field(description=f"`{OUTPUT}`.", examples=[OUTPUT])
    parameters: Parameters = Field(
        default={}, description="Ignored; `classification` and shared memory are refused."
    )


class InferenceRequest(BaseModel):
    """Faces to rate."""

    id: str | None = Field(default=None, description="Repeated in the answer.")
    parameters: Parameters = Field(default={}, description="Ignored; Triton's extensions get 422.")
    inputs: list[RequestInput] = Field(fail_fast=True)
    outputs: list[RequestedOutput] = Field(
        default=[], description="Without it, all.", fail_fast=True
    )


async def require_version(version: str, card: CardDependency) -> None:
    """Lets pass the version that is served."""
    if version != card.version:
        raise errors.NotFound(
            f"{card.name} has no version {version!r}; the version is: {card.version}"
        )


health = APIRouter(prefix="/v2/health", tags=["inference protocol"])
router = APIRouter(prefix="/v2", tags=["inference protocol"])

_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"
_EXAMPLE = "/v2/models/custom_cnn"
_OF_A_MODEL = openapi_responses(errors.NotFound, InvalidParameter, *GUARDED, path=_EXAMPLE)
_OF_VERSION = [Depends(require_version)]
_inference: dict[str, Any] = {
    "responses": SERVER_TIMING | openapi_responses(errors.NotFound, *UPLOADS, path=_EXAMPLE),
    "openapi_extra": describe_parameters()
    | {
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": inline_schema(InferenceRequest)}},
        }
    },
}


@health.get("/live", responses=openapi_responses(ForbiddenOrigin, path=_EXAMPLE))
async def server_live() -> dict[str, bool]:
    """Says that the process answers."""
    return {"live": True}


@health.get("/ready", responses=openapi_responses(ForbiddenOrigin, NotReady, path=_EXAMPLE))
async def server_ready(recognizer: RecognizerDependency) -> dict[str, bool]:
    """Says whether all models take work, as `/readyz` does."""
    if reason := recognizer.not_ready_reason:
        raise NotReady(reason)
    return {"live": True, "ready": True}  # the protocol's text names the one, clients the other


@router.get("", responses=openapi_responses(*GUARDED, path=_EXAMPLE))
async def server_metadata(request: Request) -> dict[str, str | list[str]]:
    """Says what server this is; it has no extensions."""
    return {"name": "ferserve", "version": request.app.version, "extensions": []}


@router.get(_MODEL, responses=_OF_A_MODEL)
@router.get(_VERSION, responses=_OF_A_MODEL, dependencies=_OF_VERSION)
async def model_metadata(card: CardDependency) -> dict[str, Any]:
    """Says what a model takes and gives; `/v1/models` has its accuracy and limits."""
    faces = {"name": INPUT, "datatype": "UINT8", "shape": [-1, FACE_SIDE, FACE_SIDE]}
    probabilities = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": [-1, len(EMOTIONS)],
        "parameters": {"labels": ",".join(card.labels)},
    }
    return {
        "name": card.name,
        "versions": [card.version],
        "platform": "onnxruntime_onnx",  # Triton's name for such models
        "inputs": [faces],
        "outputs": [probabilities],
    }


@router.get(f"{_MODEL}/ready", responses=_OF_A_MODEL)
@router.get(f"{_VERSION}/ready", responses=_OF_A_MODEL, dependencies=_OF_VERSION)
async def model_ready(
    card: CardDependency, recognizer: RecognizerDependency
) -> dict[str, str | bool]:
    """Says whether a model takes work."""
    if recognizer.draining:
        raise NotReady("the service is shutting down")
    if not recognizer.served(card.name).batcher.healthy:
        raise NotReady(f"{card.name} is starting, or a worker of it died")
    return {"name": card.name, "ready": True}


@router.post(f"{_MODEL}/infer", **_inference)
@router.post(f"{_VERSION}/infer", **_inference, dependencies=_OF_VERSION)
async def infer(
    request: Request,
    response: Response,
    card: CardDependency,
    recognizer: RecognizerDependency,
    budget: BudgetDependency,
) -> dict[str, Any]:
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
    settings, seconds = recognizer.settings, read_seconds(request)
    with budget.charge() as take:
        body = await read_body(request, settings.max_upload_bytes, take)
        take(JSON_COPIES * len(body))
        share = IMAGE_WORK * settings.max_images // (recognizer.served(card.name).face_work or 1)
        most = max(1, min(share, settings.max_queue))
        asked, faces = await run_in_threadpool(read_request, body, most)
        work = recognizer.rate(card.name, list(faces), seconds)
        answers = await while_connected(request, work)
    timing = {
        "queue": 1000 * max(answer.queue_seconds for answer in answers),
        "inference": 1000 * max(answer.inference_seconds for answer in answers),
    }
    response.headers.update(private(timing))
    output = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": [len(answers), len(EMOTIONS)],
        "data": np.concatenate([answer.value for answer in answers]).tolist(),
    }
    known = {} if asked.id is None else {"id": asked.id}
    return {"model_name": card.name, "model_version": card.version, **known, "outputs": [output]}


def read_request(body: bytes, max_faces: int) -> tuple[InferenceRequest, NDArray[np.uint8]]:
    """Reads an inference request; takes some milliseconds for a large one.

    Returns:
        The request, and its faces, uint8 ``[N, 48, 48]`` with N from 1 to ``max_faces``.

    Raises:
        MalformedRequest: The body is not a document of the protocol.
        InvalidParameter: The models have no such input or output.
    """
    # Each value of a document follows one of these signs. Counted first, because Python's objects
    # can take thirty times the memory of the text that they are made from.
    if sum(body.count(sign) for sign in b"[{,:") > max_faces * _VALUES_PER_FACE + _OTHER_VALUES:
        raise InvalidParameter(_too_many(max_faces))
    if body.count(b":") + body.count(b"{") > _OTHER_VALUES:  # a fault in each takes a kilobyte
        raise MalformedRequest(f"the body has more than {_OTHER_VALUES} named values")
    try:
        request = InferenceRequest.model_validate_json(body)
    except ValidationError as error:
        faults = describe_faults(error, most=3)
        raise MalformedRequest(f"the body is not as described: {faults}") from None
    for output in request.outputs:
        if output.name != OUTPUT:
            raise InvalidParameter(f"outputs: the only one is {OUTPUT!r}")
        for extension in ("classification", "shared_memory_region"):
            if output.parameters.get(extension):
                raise InvalidParameter(f"outputs: the parameter {extension!r} is not supported")
    if [tensor.name for tensor in request.inputs] != [INPUT]:
        raise InvalidParameter(f"inputs: there must be one, {INPUT!r}")
    return request, _faces(request.inputs[0], max_faces)


def _faces(tensor: RequestInput, max_faces: int) -> NDArray[np.uint8]:
    if tensor.datatype != "UINT8":
        raise InvalidParameter("datatype: must be 'UINT8'")
    if tensor.shape[1:] != [FACE_SIDE, FACE_SIDE] or tensor.shape[0] < 1:
        raise InvalidParameter("shape: must be [N, 48, 48] with N at least 1")
    if tensor.shape[0] > max_faces:
        raise InvalidParameter(_too_many(max_faces))
    if any(form in tensor.parameters for form in OTHER_FORMS):
        raise InvalidParameter("parameters: only tensors whose values are in 'data' are taken")
    count = tensor.shape[0] * FACE_SIDE * FACE_SIDE
    is_flat = isinstance(tensor.data, list) and len(tensor.data) == count
    values = _flatten(tensor.data, [count] if is_flat else tensor.shape)
    try:
        if bool in set(map(type, values)):
            raise TypeError
        pixels = bytes(values)
    except (TypeError, ValueError):
        raise InvalidParameter("data: must be whole numbers from 0 to 255") from None
    return np.frombuffer(pixels, np.uint8).reshape(tensor.shape)


def _flatten(data: object, shape: Sequence[int]) -> Iterable[Any]:
    """Returns the values of lists that are nested as a shape says."""
    level: list[Any] = [data]
    for length in shape:
        if not all(isinstance(part, list) and len(part) == length for part in level):
            raise InvalidParameter("data: its lists are not nested as the shape says, and not flat")
        level = list(chain.from_iterable(level))
    return level


def _too_many(max_faces: int) -> str:
    return f"a request may have at most {max_faces} faces"
