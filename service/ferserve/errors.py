"""What the service refuses, and why: each refusal has its status, code and title here, once.

The pipeline raises them, the API answers them as problems (RFC 9457), and the clients raise them
again. See docs/operations.md for what callers should do about each.
"""

from collections.abc import Mapping

NO_RUNTIME = "ONNX Runtime is not installed; pip install 'ferserve[cpu]', or 'ferserve[gpu]'"
"""Said by programs and commands that need it."""


class Refusal(Exception):  # noqa: N818 - most are conditions, not faults
    """A request was not carried out; each kind is a subclass.

    Args:
        detail: What is wrong with this request; may be shown to the caller.
        headers: Headers of the API's answer, beside those of the kind.
        code: The kind, where it has no class: problems of single files and jobs, and codes that a
            client does not know.
        status: The HTTP status of such a kind.
        request_id: Of the answer that the refusal came with; also in the service's log.
    """

    status: int = 422
    code: str = "refused"
    title: str = "The request is refused"
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        detail: str,
        headers: Mapping[str, str] | None = None,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = {**self.headers, **(headers or {})}
        self.code = code or self.code
        self.status = status or self.status
        self.request_id = request_id


def without_frames(error: Exception) -> Exception:
    """Drops the tracebacks of a refusal and its causes, whose frames hold the image.

    A fault keeps its traceback, for the log.
    """
    if isinstance(error, InternalError) or not isinstance(error, Refusal):
        return error
    found: list[BaseException | None] = [error]
    while found:
        if (one := found.pop()) and one.__traceback__:
            one.__traceback__ = None
            found += [one.__cause__, one.__context__]
    return error


def kind_of(code: str) -> type[Refusal]:
    """Returns the class of a code: ``Refusal`` itself where none has it."""
    return next((kind for kind in Refusal.__subclasses__() if kind.code == code), Refusal)


class MalformedRequest(Refusal):
    status, code, title = 400, "malformed_request", "The request cannot be read"


class NoFace(Refusal):
    status, code, title = 400, "no_face", "There is no face in the image"


class Unauthorized(Refusal):
    status, code, title = 401, "unauthorized", "An API key is needed"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class ForbiddenOrigin(Refusal):
    status, code, title = 403, "forbidden_origin", "Pages of this origin may not connect"


class NotFound(Refusal):
    status, code, title = 404, "not_found", "There is nothing here"


class MethodNotAllowed(Refusal):
    status, code, title = 405, "method_not_allowed", "The method is not allowed here"


class DatasetNotConfigured(Refusal):
    status, code, title = 409, "dataset_not_configured", "There is no data set to measure on"


class PayloadTooLarge(Refusal):
    status, code, title = 413, "payload_too_large", "The upload is too large"


class TooManyPixels(Refusal):
    status, code, title = 413, "too_many_pixels", "The image has too many pixels"


class TooManyImages(Refusal):
    status, code, title = 413, "too_many_images", "The upload has too many files"


class UnsupportedMediaType(Refusal):
    status, code, title = 415, "unsupported_media_type", "The content is not supported"


class UndecodableImage(Refusal):
    status, code, title = 422, "undecodable_image", "The image cannot be decoded"


class ImageTooSmall(Refusal):
    status, code, title = 422, "image_too_small", "The image is too small"


class InvalidArchive(Refusal):
    status, code, title = 422, "invalid_archive", "The zip cannot be used"


class UnknownModel(Refusal):
    status, code, title = 422, "unknown_model", "The model is unknown"


class InvalidParameter(Refusal):
    status, code, title = 422, "invalid_parameter", "A parameter is invalid"


class QueueFull(Refusal):
    status, code, title = 429, "queue_full", "The service is at its limit"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class RateLimited(Refusal):
    status, code, title = 429, "rate_limited", "Too many requests"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class InternalError(Refusal):
    status, code, title = 500, "internal_error", "The service failed"


class NotReady(Refusal):
    status, code, title = 503, "not_ready", "The service is not ready"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class DeadlineExceeded(Refusal):
    status, code, title = 504, "deadline_exceeded", "The answer took too long"
