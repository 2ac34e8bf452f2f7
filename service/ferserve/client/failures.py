"""What clients make of failures: when to ask again, and what to raise. Sends nothing."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from ferserve.errors import Refusal, kind_of
from ferserve.schemas import ProblemDetails

RETRIED_STATUSES = frozenset({429, 503})
"""The service did nothing for such a request, and may do it later."""


@dataclass(frozen=True)
class Retries:
    """How long a client tries.

    Attributes:
        total_seconds: Longest time from the first attempt to the beginning of the last; at 0 there
            is one attempt.
        first_pause: Before the second attempt, seconds; each further one is twice as long.
        longest_pause: Largest of them, seconds. A ``Retry-After`` of the service may be longer.
    """

    total_seconds: float = 60.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


class Attempts:
    """The attempts of one call; the methods return the seconds to wait before the next, or None.

    Unless it is ``repeatable``, a request is only sent again that was surely not carried out.
    """

    def __init__(self, retries: Retries, *, repeatable: bool = True) -> None:
        self._retries = retries
        self._repeatable = repeatable
        self._started = time.monotonic()
        self._failed = 0

    def pause_after_answer(self, status: int, headers: Mapping[str, str]) -> float | None:
        """After an answer of the service."""
        return self.pause(retry_after(headers)) if status in RETRIED_STATUSES else None

    def pause_after_error(self, error: httpx.TransportError) -> float | None:
        """After a connection that was not made, or broke."""
        not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        # A service that takes too long is not helped by more work: its timeouts are not repeated.
        broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        return self.pause() if not_sent or (broken and self._repeatable) else None

    def pause(self, asked_for: float = 0.0) -> float | None:
        """After a failure that is repeated in any case; longer where the service asked for it."""
        limits = self._retries
        backoff = min(limits.longest_pause, limits.first_pause * 2.0**self._failed)
        self._failed += 1
        # At random, so that clients that failed together do not come back together.
        pause = asked_for + random.uniform(0.5, 1.0) * backoff  # noqa: S311 - no secret
        elapsed = time.monotonic() - self._started
        return pause if elapsed + pause <= limits.total_seconds else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Reads the seconds of ``Retry-After`` (RFC 9110, section 10.2.3); 0 without them."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


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
    """Returns the refusal of an HTTP answer, which may be a proxy's and not the API's."""
    kept = {"Retry-After": headers["Retry-After"]} if "Retry-After" in headers else {}
    try:
        return refusal_of_problem(ProblemDetails.model_validate_json(body), kept)
    except ValidationError:
        phrase = httpx.codes.get_reason_phrase(status) or "an unknown status"
        detail = f"{phrase}; the answer is not the service's own"
        return Refusal(detail, kept, code=f"http_{status}", status=status)
