"""Refusals, and whatever else goes wrong, as problems (RFC 9457): the one handler for all."""

import logging
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Match

from ferserve import deepface, inference_protocol
from ferserve.errors import (
    InternalError,
    InvalidParameter,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Refusal,
)
from ferserve.schemas import ProblemDetails

logger = logging.getLogger(__name__)


HANDLED = (Refusal, HTTPException, RequestValidationError)
"""What the application itself answers; the outermost middleware answers whatever else there is."""

_KIND_OF_STATUS: dict[int, type[Refusal]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
}


def as_refusal(error: Exception) -> Refusal:
    """Turns any error into what a caller may see; of our own faults that is no detail."""
    if isinstance(error, Refusal) and not isinstance(error, InternalError):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidParameter("; ".join(_describe(fault) for fault in error.errors()))
    if isinstance(error, HTTPException):
        return _KIND_OF_STATUS.get(error.status_code, InternalError)(str(error.detail))
    return InternalError("the service's log has more under this request_id")


def describe(request: HTTPConnection, error: Exception) -> ProblemDetails:
    """Describes any error to the caller of a request or a stream; logs what is our fault."""
    refusal = as_refusal(error)
    if isinstance(refusal, InternalError):
        method = request.scope.get("method", "WS")
        logger.error("%s %s failed", method, _path(request), exc_info=error)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    is_deepface = path == deepface.PATH
    document = deepface.AnalyzeProblem if is_deepface else inference_protocol.problem_document(path)
    return document(
        type=type_of(refusal.code),
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        instance=_path(request),
        code=refusal.code,
        request_id=request.state.request_id,
    )


async def handle(request: Request, error: Exception) -> JSONResponse:
    """Answers any error: as ``application/problem+json``, and as its clients expect on ``/v2``."""
    content = describe(request, error)
    refusal = as_refusal(error)
    headers = dict(refusal.headers)
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if isinstance(refusal, MethodNotAllowed):
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return JSONResponse(
        content.model_dump(),
        status_code=content.status,
        headers=headers,
        media_type=content.media_type,
    )


def _path(request: HTTPConnection) -> str:
    """The path as in a URI, so that a line break in it forges no log line."""
    return quote(request.scope["path"])


def _allowed_methods(request: Request) -> list[str]:
    """All methods of a path; Starlette names only those of the first route that has the path."""
    routes = request.app.router.routes
    allowed = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(
            route.matches({**request.scope, "method": method})[0] == Match.FULL for route in routes
        )
    ]
    return ["GET", "HEAD", *allowed[1:]] if "GET" in allowed else allowed


def type_of(code: str) -> str:
    """Returns the URI of a kind of problem."""
    return f"urn:ferserve:problem:{code}"


def _describe(fault: dict[str, Any]) -> str:
    """Names the parameter and the rule, never the value."""
    name = ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0])
    return f"{name}: {fault['msg']}"
