"""Problems in the API's description."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from ferserve import errors
from ferserve.api.problems import type_of
from ferserve.schemas import ProblemDetails

GUARDED = (errors.Unauthorized, errors.RateLimited, errors.NotReady)
"""What every call can be answered."""

UPLOADS = (
    *GUARDED,
    errors.MalformedRequest,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidParameter,
    errors.QueueFull,
    errors.InternalError,
    errors.DeadlineExceeded,
)
"""What every call with a body can be answered."""

IMAGE = (errors.TooManyPixels, errors.UndecodableImage, errors.ImageTooSmall)

_REQUEST_ID_HEADER = {
    "X-Request-ID": {"description": "As sent, or made up.", "schema": {"type": "string"}}
}
_HEADERS = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}},
}


def openapi_responses(
    *kinds: type[errors.Refusal],
    document: type[ProblemDetails] = ProblemDetails,
    instance: str = "/v1/emotion",
) -> dict[int | str, dict[str, Any]]:
    """Describes the problems an operation can answer, one example for each code.

    Args:
        *kinds: The problems.
        document: What the operation answers them with.
        instance: The path in the examples.
    """
    schema = document.model_json_schema(mode="serialization")
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        content: dict[str, Any] = {document.media_type: {"schema": schema, "examples": {}}}
        response = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": content,
                "headers": {**_REQUEST_ID_HEADER},
            },
        )
        example = document(
            type=type_of(kind.code),
            title=kind.title,
            status=kind.status,
            detail=kind.title,
            instance=instance,
            code=kind.code,
            request_id="0f1d6f0c7a5b4f0e8f3f0a1b2c3d4e5f",
        )
        response["content"][document.media_type]["examples"][kind.code] = {
            "summary": kind.title,
            "value": example.model_dump(),
        }
        response["headers"] |= {name: _HEADERS[name] for name in kind.headers}
    return responses


def form_body(fields: type[BaseModel], name: str, file: dict[str, Any]) -> dict[str, Any]:
    """Describes a form with files, ``name``, and the fields of a model."""
    schema = inline_schema(fields)
    properties = {name: file, **schema["properties"]}
    return {
        "multipart/form-data": {"schema": schema | {"required": [name], "properties": properties}}
    }


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Returns a model's schema without references, for bodies that are read by hand."""
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rsplit("/", 1)[1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(item) for item in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = resolve(schema)
    return resolved
