"""Problems in the API's description."""

from http import HTTPStatus
from typing import Any

from service.errors import Problem, type_of
from service.schemas import ProblemDetails

_REQUEST_ID_HEADER = {
    "X-Request-ID": {"description": "As sent, or made up.", "schema": {"type": "string"}}
}
_HEADERS = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}},
}


def openapi_responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Describes the problems an operation can answer, one example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {
                    "application/problem+json": {
                        "schema": ProblemDetails.model_json_schema(),
                        "examples": {},
                    }
                },
            },
        )
        example = ProblemDetails(
            type=type_of(kind.code),
            title=kind.title,
            status=kind.status,
            detail=(kind.__doc__ or "").split("\n", 1)[0],
            instance="/v1/emotion",
            code=kind.code,
            request_id="0f1d6f0c7a5b4f0e8f3f0a1b2c3d4e5f",
        )
        response["content"]["application/problem+json"]["examples"][kind.code] = {
            "summary": kind.title,
            "value": example.model_dump(),
        }
        response.setdefault("headers", _REQUEST_ID_HEADER | {})
        response["headers"] |= {name: _HEADERS[name] for name in kind.headers}
    return responses
