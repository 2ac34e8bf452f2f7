"""Options of calls that compute: read by hand, and described to the API's document.

FastAPI does both from a function's signature; solving one with the five options took a quarter of
all the time that the service adds to a small request. Where query and body are wrong, the query is
named.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection

from ferserve.api.openapi import inline_schema
from ferserve.errors import InvalidParameter, MalformedRequest
from ferserve.schemas import describe_faults

Options = TypeVar("Options", bound=BaseModel)

TIMEOUT = "X-Request-Timeout-Ms"


class Deadline(BaseModel):
    """The time that a caller has."""

    milliseconds: int = Field(
        validation_alias=TIMEOUT,
        ge=1,
        description="Shortens the service's own limit, from a whole upload to its answer, ms.",
    )


def read_options(
    connection: HTTPConnection, kind: type[Options], fields: Iterable[tuple[str, Any]] = ()
) -> Options:
    """Returns the options in the query and in the other fields of a body.

    Raises:
        InvalidParameter: One is not as described, or is unknown in the query.
        MalformedRequest: One comes twice, differs between query and body, or is unknown in the
            body.
    """
    sent = once(fields)
    for name in sent:
        if name not in kind.model_fields:
            known = ", ".join(kind.model_fields)
            raise MalformedRequest(f"{name[:40]!r} is an unknown field; the options are: {known}")
    query = once(connection.query_params.multi_items(), "query")
    try:
        asked = kind.model_validate(query)
        in_body = kind.model_validate(sent) if sent else asked
    except ValidationError as error:
        raise InvalidParameter(describe_faults(error)) from None
    for name in query.keys() & sent.keys():
        if getattr(asked, name) != getattr(in_body, name):
            raise MalformedRequest(f"{name}: has one value in the query and another in the body")
    return kind.model_validate(query | sent) if sent else asked


def once(fields: Iterable[tuple[str, Any]], place: str = "body") -> dict[str, Any]:
    """Returns fields by name; MalformedRequest where a name comes twice."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise MalformedRequest(f"{name[:40]!r} comes twice in the {place}")
        found[name] = value
    return found


def read_seconds(connection: HTTPConnection) -> float | None:
    """Returns the seconds of ``X-Request-Timeout-Ms``; InvalidParameter where it is wrong."""
    sent = connection.headers.get(TIMEOUT)
    if sent is None:
        return None
    try:
        # However many digits it has: no setting allows a day.
        return min(Deadline.model_validate({TIMEOUT: sent}).milliseconds, 86_400_000) / 1000
    except ValidationError as error:
        raise InvalidParameter(describe_faults(error)) from None


def describe_parameters(kind: type[BaseModel] | None = None) -> dict[str, Any]:
    """Describes what ``read_options`` and ``read_seconds`` take, as ``openapi_extra``."""
    options = inline_schema(kind)["properties"] if kind else {}
    return {
        "parameters": [
            {
                "name": name,
                "in": "header" if name == TIMEOUT else "query",
                "required": False,
                "schema": schema,
                "description": schema["description"],
            }
            for name, schema in (options | inline_schema(Deadline)["properties"]).items()
        ]
    }
