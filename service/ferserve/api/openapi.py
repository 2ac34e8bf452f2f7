"""Problems in the API's description."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from ferserve.api.problems import type_of
from ferserve.errors import Refusal
from ferserve.schemas import ProblemDetails

_REQUEST_ID_HEADER = {
    "X-Request-ID": {"description": "As sent, or made up.", "schema": {"type": "string"}}
}
_HEADERS = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}},
}


def openapi_responses(
    *kinds: type[Refusal],
    document: type[ProblemDetails] = ProblemDetails,
    instance: str = "/v1/emotion",
) -> dict[int | str, dict[str, Any]]:
    """Describes the problems an operation can answer, one example for each code.

    Args:
        *kinds: The problems.
        document: What the operation answers them with.
        instance: The path in the examples.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {
                    document.media_type: {
                        "schema": document.model_json_schema(mode="serialization"),
                        "examples": {},
                    }
                },
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
        response.setdefault("headers", _REQUEST_ID_HEADER | {})
        response["headers"] |= {name: _HEADERS[name] for name in kind.headers}
    return responses


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
