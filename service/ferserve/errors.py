"""What the service refuses, and why: each refusal has its status, code and title here, once.

The pipeline raises them, the API answers them as problems (RFC 9457), and the clients raise them
again. See docs/operations.md for what callers should do about each.
"""

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - most are conditions, not faults
    """A request was not carried out; each kind is a subclass.

    Args:
        detail: What is wrong with this request; may be shown to the caller.
        headers: More headers of the API's answer, beside those of the kind.
        code: The kind in a word, where it has no class: problems of single files and jobs, and
            answers that a client does not know.
        status: Its HTTP status then.
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


def kind_of(code: str) -> type[Refusal]:
    """Returns the class of a code: ``Refusal`` itself where none has it."""
    return next((kind for kind in Refusal.__subclasses__() if kind.code == code), Refusal)


class MalformedRequest(Refusal):
    """The request's framing is broken: empty body, bad JSON, bad base64, bad multipart."""

    status, code, title = 400, "malformed_request", "The request cannot be read"


class NoFace(Refusal):
    """The image has no face, and the caller asked for an error then, as DeepFace's clients do."""

    status, code, title = 400, "no_face", "There is no face in the image"


class Unauthorized(Refusal):
    """The operator has set API keys, and the request has none of them."""

    status, code, title = 401, "unauthorized", "An API key is needed"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class ForbiddenOrigin(Refusal):
    """The operator does not allow pages of this origin."""

    status, code, title = 403, "forbidden_origin", "Pages of this origin may not connect"


class NotFound(Refusal):
    """Nothing is at this path."""

    status, code, title = 404, "not_found", "There is nothing here"


class MethodNotAllowed(Refusal):
    """The path exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "The method is not allowed here"


class DatasetNotConfigured(Refusal):
    """The operator has set no data set."""

    status, code, title = 409, "dataset_not_configured", "There is no data set to measure on"


class PayloadTooLarge(Refusal):
    """The body, or what it unpacks to, is over the limit in bytes."""

    status, code, title = 413, "payload_too_large", "The upload is too large"


class TooManyPixels(Refusal):
    """The image is over the limit in pixels."""

    status, code, title = 413, "too_many_pixels", "The image has too many pixels"


class TooManyImages(Refusal):
    """There are more files in the upload than are taken."""

    status, code, title = 413, "too_many_images", "The upload has too many files"


class UnsupportedMediaType(Refusal):
    """The content is not of a known format, or the body's form is not one that is taken."""

    status, code, title = 415, "unsupported_media_type", "The content is not supported"


class UndecodableImage(Refusal):
    """The file starts like an image but cannot be decoded."""

    status, code, title = 422, "undecodable_image", "The image cannot be decoded"


class ImageTooSmall(Refusal):
    """The image has too few pixels to hold a face."""

    status, code, title = 422, "image_too_small", "The image is too small"


class InvalidArchive(Refusal):
    """The zip is damaged, or not laid out in a folder for each emotion."""

    status, code, title = 422, "invalid_archive", "The zip cannot be used"


class UnknownModel(Refusal):
    """No model of this name is served."""

    status, code, title = 422, "unknown_model", "The model is unknown"


class InvalidParameter(Refusal):
    """A parameter is unknown or out of range."""

    status, code, title = 422, "invalid_parameter", "A parameter is invalid"


class QueueFull(Refusal):
    """More work is waiting than the service takes on."""

    status, code, title = 429, "queue_full", "The service is at its limit"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class RateLimited(Refusal):
    """The caller has sent more requests than the operator allows."""

    status, code, title = 429, "rate_limited", "Too many requests"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class InternalError(Refusal):
    """Our fault; the log has the traceback under the request's id."""

    status, code, title = 500, "internal_error", "The service failed"


class NotReady(Refusal):
    """Starting, shutting down, or broken."""

    status, code, title = 503, "not_ready", "The service is not ready"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class DeadlineExceeded(Refusal):
    """The answer was not there in time."""

    status, code, title = 504, "deadline_exceeded", "The answer took too long"
