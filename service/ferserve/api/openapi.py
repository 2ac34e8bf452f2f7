"""What FastAPI cannot see in a function's signature: problems and bodies, for the description."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from ferserve import errors
from ferserve.api.problems import document_of, problem_of

GUARDED = (errors.Unauthorized, errors.ForbiddenOrigin, errors.RateLimited, errors.NotReady)
"""What any call can be answered with."""

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
"""What any call with a body can be answered with."""

IMAGE = (errors.TooManyPixels, errors.UndecodableImage, errors.ImageTooSmall)

_HEADERS = {
    name: {"description": description, "schema": {"type": kind}}
    for name, kind, description in (
        ("X-Request-ID", "string", "As sent, or made up."),
        ("Retry-After", "integer", "Seconds to wait."),
        ("WWW-Authenticate", "string", "Always `Bearer`."),
        ("Server-Timing", "string", "Where the time went, milliseconds: `decode;dur=1.2, …`."),
    )
}

SERVER_TIMING: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Server-Timing": _HEADERS["Server-Timing"]}}
}
"""Describes the header of an answer about faces."""


def openapi_responses(
    *kinds: type[errors.Refusal], path: str = "/v1/emotion"
) -> dict[int | str, dict[str, Any]]:
    """Describes the problems that a path can answer with, one example for each code."""
    document = document_of(path)
    schema = document.model_json_schema(mode="serialization")
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {document.media_type: {"schema": schema, "examples": {}}},
                "headers": {},
            },
        )
        example = problem_of(kind(kind.title), document, path, "0f1d6f0c7a5b4f0e8f3f0a1b2c3d4e5f")
        response["content"][document.media_type]["examples"][kind.code] = {
            "summary": kind.title,
            "value": example.model_dump(),
        }
        response["headers"] |= {name: _HEADERS[name] for name in ("X-Request-ID", *kind.headers)}
    return responses


def form_body(
    fields: type[BaseModel], name: str, file: dict[str, Any], kind: str = "multipart/form-data"
) -> dict[str, Any]:
    """Describes a form, or a document, with a file called ``name`` and the fields of a model."""
    schema = inline_schema(fields)
    properties = {name: file, **schema["properties"]}
    return {kind: {"schema": schema | {"required": [name], "properties": properties}}}


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
