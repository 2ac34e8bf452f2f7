"""Options of calls that compute: read by hand, and described to the API's document.

FastAPI does both from a function's signature; solving one with the five options took a quarter of
all the time that the service adds to a small request. Where both are wrong, the query is named.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from ferserve.api.calls import TIMEOUT_HEADER, TimeoutHeader, seconds
from ferserve.api.openapi import inline_schema
from ferserve.errors import MalformedRequest

Options = TypeVar("Options", bound=BaseModel)

_TIMEOUT: TypeAdapter[int | None] = TypeAdapter(TimeoutHeader)


def read_options(
    connection: HTTPConnection, kind: type[Options], fields: Iterable[tuple[str, Any]] = ()
) -> Options:
    """Returns the options in the query and in the other fields of a body.

    Raises:
        RequestValidationError: One is not as described, or is unknown in the query.
        MalformedRequest: One comes twice, differs between query and body, or is unknown in the
            body.
    """
    sent = once(fields)
    for name in sent:
        if name not in kind.model_fields:
            known = ", ".join(kind.model_fields)
            raise MalformedRequest(f"{name[:40]!r} is an unknown field; the options are: {known}")
    query = once(connection.query_params.multi_items(), "query")
    asked = _validated(kind, "query", query)
    if not sent:
        return asked
    in_body = _validated(kind, "body", sent)
    for name in query.keys() & sent.keys():
        if getattr(asked, name) != getattr(in_body, name):
            raise MalformedRequest(f"{name}: has one value in the query and another in the body")
    return kind.model_validate(query | sent)


def once(fields: Iterable[tuple[str, Any]], place: str = "body") -> dict[str, Any]:
    """Returns fields by name.

    Raises:
        MalformedRequest: A name comes twice.
    """
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise MalformedRequest(f"{name[:40]}: comes twice in the {place}")
        found[name] = value
    return found


def _validated(kind: type[Options], place: str, values: dict[str, Any]) -> Options:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _refusal(place, error) from None


def read_seconds(connection: HTTPConnection) -> float | None:
    """Returns the time that a caller has: the header ``X-Request-Timeout-Ms``, in seconds.

    Raises:
        RequestValidationError: It is not as described.
    """
    sent = connection.headers.get(TIMEOUT_HEADER)
    if sent is None:
        return None
    try:
        return seconds(_TIMEOUT.validate_python(sent))
    except ValidationError as error:
        raise _refusal("header", error, TIMEOUT_HEADER) from None


def describe_parameters(kind: type[BaseModel]) -> dict[str, Any]:
    """Describes what ``read_options`` and ``read_seconds`` take, as ``openapi_extra``."""
    options = inline_schema(kind)["properties"]
    timeout = {"title": TIMEOUT_HEADER, **_TIMEOUT.json_schema()}
    return {
        "parameters": [
            *(_parameter("query", name, schema) for name, schema in options.items()),
            _parameter("header", TIMEOUT_HEADER, timeout),
        ]
    }


def _parameter(place: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": False,
        "schema": schema,
        "description": schema["description"],
    }


def _refusal(place: str, error: ValidationError, *names: str) -> RequestValidationError:
    faults = error.errors(include_url=False, include_input=False)
    return RequestValidationError(
        [{**fault, "loc": (place, *names, *fault["loc"])} for fault in faults]
    )
