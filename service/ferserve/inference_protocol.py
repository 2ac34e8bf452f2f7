"""The Open Inference Protocol V2: its documents, and faces from its JSON tensors. Knows no HTTP.

The protocol, also called KServe's V2, is that of ``specification/protocol/inference_rest.md`` of
github.com/kserve/open-inference-protocol; Triton, MLServer and OpenVINO's server speak it too.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, ValidationError, computed_field

from ferserve.card import ModelCard
from ferserve.errors import InvalidParameter, MalformedRequest
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.models import INPUT, OUTPUT
from ferserve.schemas import ProblemDetails, describe_faults

PREFIX = "/v2"
"""All paths of the protocol begin with it."""

PLATFORM = "onnxruntime_onnx"
"""Triton's name for models in ONNX that ONNX Runtime runs."""

OTHER_FORMS = ("binary_data_size", "shared_memory_region")
"""Parameters of a tensor whose values are not in ``data``: Triton's extensions, not offered."""

_VALUES_PER_FACE = FACE_SIDE * (FACE_SIDE + 1) + 1
_OTHER_VALUES = 1000
_SHOWN_FAULTS = 3

Parameters = dict[str, bool | int | float | str]
Shape = Annotated[
    list[StrictInt], Field(description="Rows first; -1 is any number.", fail_fast=True)
]


class InferenceProblem(ProblemDetails):
    """An error, as clients of the protocol expect it, with the members of our other errors.

    The media type is that of plain JSON: KServe's client shows no message of any other.
    """

    media_type: ClassVar[str] = "application/json"

    @computed_field(description="The same as `detail`.")  # type: ignore[prop-decorator]
    @property
    def error(self) -> str:
        """The protocol's only member of an error."""
        return self.detail


class ServerLive(BaseModel):
    """The server answers."""

    live: bool


class ServerReady(BaseModel):
    """The server takes work. The protocol's text names the first member, its clients the second."""

    live: bool
    ready: bool


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str] = Field(description="Extensions of the protocol: none.")


class ModelReady(BaseModel):
    """The model takes work."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """What a model takes or gives."""

    name: str
    datatype: str
    shape: Shape
    parameters: Parameters | None = Field(
        default=None, description="`labels`: names of the columns, with commas between them."
    )


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]

    @classmethod
    def of(cls, card: ModelCard) -> "ModelMetadata":
        """Describes the model of a card."""
        faces = TensorMetadata(name=INPUT, datatype="UINT8", shape=[-1, FACE_SIDE, FACE_SIDE])
        probabilities = TensorMetadata(
            name=OUTPUT,
            datatype="FP32",
            shape=[-1, len(EMOTIONS)],
            parameters={"labels": ",".join(card.labels)},
        )
        return cls(
            name=card.name,
            versions=[card.version],
            platform=PLATFORM,
            inputs=[faces],
            outputs=[probabilities],
        )


class RequestInput(BaseModel):
    """A tensor that is sent."""

    name: str = Field(description=f"`{INPUT}`.", examples=[INPUT])
    shape: Shape = Field(description="`[N, 48, 48]`.", examples=[[1, FACE_SIDE, FACE_SIDE]])
    datatype: str = Field(description="`UINT8`.", examples=["UINT8"])
    parameters: Parameters = Field(default={}, description="Are ignored.")
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
        default={}, description="Are ignored, but `classification`, which is refused."
    )


class InferenceRequest(BaseModel):
    """Faces to rate."""

    id: str | None = Field(default=None, description="Stands in the answer, too.")
    parameters: Parameters = Field(default={}, description="Are ignored.")
    inputs: list[RequestInput] = Field(fail_fast=True)
    outputs: list[RequestedOutput] = Field(
        default=[], description="Without it, all.", fail_fast=True
    )


class ResponseOutput(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: Shape
    data: list[float] = Field(description="Flat, row by row.")


class InferenceResponse(BaseModel):
    """How the expressions of the faces appear."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="As it was sent.")
    outputs: list[ResponseOutput]

    @classmethod
    def of(
        cls, card: ModelCard, request: InferenceRequest, scores: Sequence[NDArray[np.float32]]
    ) -> "InferenceResponse":
        """Writes the probabilities of each face, float32 ``[7]``, into an answer."""
        output = ResponseOutput(
            name=OUTPUT,
            datatype="FP32",
            shape=[len(scores), len(EMOTIONS)],
            data=np.concatenate(scores).tolist(),
        )
        return cls(
            model_name=card.name, model_version=card.version, id=request.id, outputs=[output]
        )


def problem_document(path: str) -> type[ProblemDetails]:
    """Returns the form of the errors of a path."""
    is_ours = path == PREFIX or path.startswith(f"{PREFIX}/")
    return InferenceProblem if is_ours else ProblemDetails


def read_request(body: bytes, max_faces: int) -> tuple[InferenceRequest, NDArray[np.uint8]]:
    """Reads an inference request; takes some milliseconds for a large one.

    Args:
        body: JSON, from anyone.
        max_faces: Most faces.

    Returns:
        The request, and its faces, uint8 ``[N, 48, 48]`` with N at least 1.

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
        faults = describe_faults(error, most=_SHOWN_FAULTS)
        raise MalformedRequest(f"the body is not as described: {faults}") from None
    for output in request.outputs:
        if output.name != OUTPUT:
            raise InvalidParameter(f"outputs: the only one is {OUTPUT!r}")
        if output.parameters.get("classification"):
            raise InvalidParameter("outputs: the parameter 'classification' is not supported")
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
