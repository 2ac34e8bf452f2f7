"""What can go wrong for a client, beside the network."""

from collections.abc import Mapping

import httpx
from pydantic import ValidationError

from ferserve.errors import Refusal, kind_of
from ferserve.schemas import ProblemDetails


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


def refusal_of_problem(
    problem: ProblemDetails, headers: Mapping[str, str] | None = None
) -> Refusal:
    """Returns the refusal that the API describes."""
    return kind_of(problem.code)(
        problem.detail,
        headers,
        code=problem.code,
        status=problem.status,
        request_id=problem.request_id,
    )


def refusal_of_answer(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """Returns the refusal of an HTTP answer, which may be a proxy's and no problem of the API."""
    kept = {"Retry-After": headers["Retry-After"]} if "Retry-After" in headers else {}
    try:
        return refusal_of_problem(ProblemDetails.model_validate_json(body), kept)
    except ValidationError:
        phrase = httpx.codes.get_reason_phrase(status) or "an unknown status"
        detail = f"{phrase}; the answer is not the service's own"
        return Refusal(detail, kept, code=f"http_{status}", status=status)
