"""Problems of the API: what can go wrong, with which status, and the one handler for all."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Match

from ferserve import batcher, deepface, images, inference_protocol, recognizer, streaming
from ferserve.benchmark import archive, dataset, jobs
from ferserve.benchmark.schemas import JobProblem
from ferserve.fer2013.reader import DatasetError
from ferserve.schemas import ProblemDetails

logger = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """An error answer; each kind is a subclass that owns its status, code and title.

    Args:
        detail: What is wrong with this request; shown to the caller.
        headers: More headers of the answer, beside those of the kind.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = {**type(self).headers, **(headers or {})}


class MalformedRequest(Problem):
    """The request's framing is broken: empty body, bad JSON, bad base64, bad multipart."""

    status, code, title = 400, "malformed_request", "The request cannot be read"


class NoFace(Problem):
    """The image has no face, and the caller asked for an error then, as DeepFace's clients do."""

    status, code, title = 400, "no_face", "There is no face in the image"


class Unauthorized(Problem):
    """The operator has set API keys, and the request has none of them."""

    status, code, title = 401, "unauthorized", "An API key is needed"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class ForbiddenOrigin(Problem):
    """The operator does not allow pages of this origin."""

    status, code, title = 403, "forbidden_origin", "Pages of this origin may not connect"


class NotFound(Problem):
    """Nothing is at this path."""

    status, code, title = 404, "not_found", "There is nothing here"


class MethodNotAllowed(Problem):
    """The path exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "The method is not allowed here"


class DatasetNotConfigured(Problem):
    """The operator has set no data set."""

    status, code, title = 409, "dataset_not_configured", "There is no data set to measure on"


class PayloadTooLarge(Problem):
    """The body, or what it unpacks to, is over the limit in bytes."""

    status, code, title = 413, "payload_too_large", "The upload is too large"


class TooManyPixels(Problem):
    """The image is over the limit in pixels."""

    status, code, title = 413, "too_many_pixels", "The image has too many pixels"


class TooManyImages(Problem):
    """There are more files in the upload than are taken."""

    status, code, title = 413, "too_many_images", "The upload has too many files"


class UnsupportedMediaType(Problem):
    """The content is not of a known format, or the body's form is not one that is taken."""

    status, code, title = 415, "unsupported_media_type", "The content is not supported"


class UndecodableImage(Problem):
    """The file starts like an image but cannot be decoded."""

    status, code, title = 422, "undecodable_image", "The image cannot be decoded"


class ImageTooSmall(Problem):
    """The image has too few pixels to hold a face."""

    status, code, title = 422, "image_too_small", "The image is too small"


class InvalidArchive(Problem):
    """The zip is damaged, or not laid out in a folder for each emotion."""

    status, code, title = 422, "invalid_archive", "The zip cannot be used"


class UnknownModel(Problem):
    """No model of this name is served."""

    status, code, title = 422, "unknown_model", "The model is unknown"


class InvalidParameter(Problem):
    """A parameter is unknown or out of range."""

    status, code, title = 422, "invalid_parameter", "A parameter is invalid"


class QueueFull(Problem):
    """More work is waiting than the service takes on."""

    status, code, title = 429, "queue_full", "The service is at its limit"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class BenchmarkQueueFull(QueueFull):
    """More benchmarks are waiting than the service takes on."""

    headers: Mapping[str, str] = {"Retry-After": "60"}


class RateLimited(Problem):
    """The caller has sent more requests than the operator allows."""

    status, code, title = 429, "rate_limited", "Too many requests"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class InternalError(Problem):
    """Our fault; the log has the traceback under the request's id."""

    status, code, title = 500, "internal_error", "The service failed"


class NotReady(Problem):
    """Starting, shutting down, or broken."""

    status, code, title = 503, "not_ready", "The service is not ready"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class DeadlineExceeded(Problem):
    """The answer was not there in time."""

    status, code, title = 504, "deadline_exceeded", "The answer took too long"


_PROBLEM_OF: dict[type[Exception], type[Problem]] = {
    images.UnsupportedMediaType: UnsupportedMediaType,
    images.UndecodableImage: UndecodableImage,
    images.TooManyPixels: TooManyPixels,
    images.ImageTooSmall: ImageTooSmall,
    recognizer.UnknownModel: UnknownModel,
    recognizer.InvalidOption: InvalidParameter,
    inference_protocol.MalformedInference: MalformedRequest,
    inference_protocol.InvalidTensor: InvalidParameter,
    batcher.QueueFull: QueueFull,
    batcher.DeadlineExceeded: DeadlineExceeded,
    batcher.BatcherClosed: NotReady,
    deepface.UnsupportedRequest: InvalidParameter,
    deepface.NoFace: NoFace,
    streaming.TooManyStreams: QueueFull,
    streaming.StreamsClosed: NotReady,
    archive.NotAnArchive: UnsupportedMediaType,
    archive.InvalidArchive: InvalidArchive,
    archive.TooManyEntries: TooManyImages,
    archive.ArchiveTooLarge: PayloadTooLarge,
    jobs.UnknownJob: NotFound,
    jobs.TooManyJobs: BenchmarkQueueFull,
    jobs.JobsClosed: NotReady,
}
"""The pipeline raises errors that know no HTTP; here they get their status."""

HANDLED = (Problem, HTTPException, RequestValidationError, *_PROBLEM_OF)
"""What the application itself answers; the outermost middleware answers whatever else there is."""

_PROBLEM_OF_STATUS: dict[int, type[Problem]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
}


def as_problem(error: Exception) -> Problem:
    """Turns any error into the problem that a caller may see."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidParameter("; ".join(_describe(fault) for fault in error.errors()))
    if isinstance(error, HTTPException):
        return _PROBLEM_OF_STATUS.get(error.status_code, InternalError)(str(error.detail))
    if type(error) in _PROBLEM_OF:
        return _PROBLEM_OF[type(error)](str(error))
    return InternalError("the service's log has more under this request_id")


def as_job_problem(error: Exception) -> JobProblem:
    """Says why a benchmark failed; logs what its owner cannot mend."""
    if isinstance(error, dataset.NothingToScore):
        return JobProblem(code="nothing_to_score", detail=str(error))
    if isinstance(error, DatasetError):
        logger.error("the data set cannot be read: %s", error)  # the caller is shown no path
        detail = "the operator's data set cannot be read; the service's log says why"
        return JobProblem(code="unreadable_dataset", detail=detail)
    problem = as_problem(error)
    if isinstance(problem, InternalError):
        logger.error("a benchmark failed", exc_info=error)
        return JobProblem(code=problem.code, detail="the service's log has more")
    return JobProblem(code=problem.code, detail=problem.detail)


def describe(request: HTTPConnection, error: Exception) -> ProblemDetails:
    """Describes any error to the caller of a request or a stream; logs what is our fault."""
    problem = as_problem(error)
    if isinstance(problem, InternalError):
        method = request.scope.get("method", "WS")
        logger.error("%s %s failed", method, _path(request), exc_info=error)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    is_deepface = path == deepface.PATH
    document = deepface.AnalyzeProblem if is_deepface else inference_protocol.problem_document(path)
    return document(
        type=type_of(problem.code),
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=_path(request),
        code=problem.code,
        request_id=request.state.request_id,
    )


async def handle(request: Request, error: Exception) -> JSONResponse:
    """Answers any error: as ``application/problem+json``, and as its clients expect on ``/v2``."""
    content = describe(request, error)
    problem = as_problem(error)
    headers = dict(problem.headers)
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if isinstance(problem, MethodNotAllowed):
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
