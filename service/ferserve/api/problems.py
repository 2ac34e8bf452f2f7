"""Refusals, and whatever else goes wrong, as problems (RFC 9457): the one handler for all."""

import logging
from typing import ClassVar
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import computed_field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Match

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

_OF_THE_FRAMEWORK = {kind.status: kind for kind in (MalformedRequest, NotFound, MethodNotAllowed)}


class AnalyzeProblem(ProblemDetails):
    """A problem with the member `error`, for clients of DeepFace and of `/v2`."""

    @computed_field(description="The same as `detail`.")  # type: ignore[prop-decorator]
    @property
    def error(self) -> str:
        """The only member of such an error elsewhere."""
        return self.detail


class InferenceProblem(AnalyzeProblem):
    """An error of `/v2`, as plain JSON: KServe's client shows no message of any other type."""

    media_type: ClassVar[str] = "application/json"


def document_of(path: str) -> type[ProblemDetails]:
    """Returns the form of the problems of a path."""
    if path == "/analyze":
        return AnalyzeProblem
    return InferenceProblem if f"{path}/".startswith("/v2/") else ProblemDetails


def as_refusal(error: Exception) -> Refusal:
    """Turns any error into what a caller may see; our own faults are not described."""
    if isinstance(error, Refusal) and not isinstance(error, InternalError):
        return error
    if isinstance(error, RequestValidationError):  # named are the parameter and the rule
        faults = ((".".join(map(str, fault["loc"][1:])), fault["msg"]) for fault in error.errors())
        return InvalidParameter("; ".join(f"{name}: {rule}" for name, rule in faults))
    if isinstance(error, HTTPException):
        return _OF_THE_FRAMEWORK.get(error.status_code, InternalError)(str(error.detail))
    return InternalError("the service's log has more under this request_id")


def describe(request: HTTPConnection, error: Exception) -> ProblemDetails:
    """Describes any error to the caller of a request or a stream; logs what is our fault."""
    refusal = as_refusal(error)
    instance = quote(request.scope["path"])  # as in a URI: a line break in it forges no log line
    if isinstance(refusal, InternalError):
        method = request.scope.get("method", "WS")
        logger.error("%s %s failed", method, instance, exc_info=error)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return problem_of(refusal, document_of(path), instance, request.state.request_id)


def problem_of(
    refusal: Refusal, document: type[ProblemDetails], instance: str, request_id: str
) -> ProblemDetails:
    """Writes a refusal into a document."""
    return document(
        type=f"urn:ferserve:problem:{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        # JSON may carry halves of characters, which no answer can repeat.
        detail=refusal.detail.encode(errors="replace").decode(),
        instance=instance,
        code=refusal.code,
        request_id=request_id,
    )


async def handle(request: Request, error: Exception) -> JSONResponse:
    """Answers any error: as ``application/problem+json``, and as its clients expect on ``/v2``."""
    content = describe(request, error)
    headers = dict(as_refusal(error).headers)
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if content.code == MethodNotAllowed.code:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return JSONResponse(
        content.model_dump(),
        status_code=content.status,
        headers=headers,
        media_type=content.media_type,
    )


def _allowed_methods(request: Request) -> list[str]:
    """All methods of a path; Starlette names only those of the first route that has the path."""
    routes = request.app.router.routes
    allowed = [
        method
        for method in ("GET", "POST", "DELETE")
        if any(r.matches({**request.scope, "method": method})[0] == Match.FULL for r in routes)
    ]
    # No route matches below a mount, which has files.
    return ["GET", "HEAD", *allowed[1:]] if not allowed or "GET" in allowed else allowed
