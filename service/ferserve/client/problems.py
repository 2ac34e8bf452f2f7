"""What can go wrong for a client, beside the network."""

from http import HTTPStatus

import httpx
from pydantic import ValidationError

from ferserve.schemas import ProblemDetails


class ProblemError(Exception):
    """The service answered with a problem.

    Attributes:
        status: HTTP status.
        code: The kind of problem in a word, such as ``undecodable_image``.
        detail: What is wrong with this request.
        request_id: Also in the service's log; empty where the answer is not the service's own.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str = "") -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id

    @classmethod
    def of(cls, problem: ProblemDetails) -> "ProblemError":
        """Makes one of the API's description."""
        return cls(problem.status, problem.code, problem.detail, problem.request_id)

    @classmethod
    def of_answer(cls, status: int, body: bytes) -> "ProblemError":
        """Makes one of an HTTP answer, which may be a proxy's and no problem of the API."""
        try:
            return cls.of(ProblemDetails.model_validate_json(body))
        except ValidationError:
            known = {entry.value for entry in HTTPStatus}
            phrase = HTTPStatus(status).phrase if status in known else "an unknown status"
            return cls(status, f"http_{status}", f"{phrase}; the answer is not the service's own")


class BenchmarkFailed(Exception):  # noqa: N818 - what happened to the job
    """A benchmark ended without a result.

    Attributes:
        code: Why, in a word; ``cancelled`` where somebody cancelled it.
        detail: Why.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class StreamClosed(Exception):  # noqa: N818
    """The service ended a stream before the last frame was answered.

    Attributes:
        code: The close code; see docs/stream.md. 1006 where the connection broke.
        reason: In words; may be empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the stream was closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


def checked(response: httpx.Response) -> bytes:
    """Returns the body of an answer.

    Raises:
        ProblemError: It is not a success.
    """
    if response.is_success:
        return response.content
    raise ProblemError.of_answer(response.status_code, response.content)
