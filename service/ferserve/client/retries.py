"""When to ask again, and after how long. Sleeps nowhere and sends nothing."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

RETRIED_STATUSES = frozenset({429, 503})
"""The service did nothing for such a request, and may do it later."""


@dataclass(frozen=True)
class Retries:
    """How long a client tries.

    Attributes:
        total_seconds: Longest time from the first attempt to the beginning of the last; at 0 there
            is one attempt.
        first_pause: Before the second attempt, seconds; each further one is twice as long.
        longest_pause: Most of them, seconds. A ``Retry-After`` of the service may be longer.
    """

    total_seconds: float = 60.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


class Attempts:
    """The attempts of one call.

    Its methods return the seconds to wait before the next attempt; None where there is to be none.

    Args:
        retries: The limits.
        repeatable: Whether a second request does no harm where the first may have been carried
            out; without it only those are repeated that were surely not.
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
    """Reads ``Retry-After`` (RFC 9110, section 10.2.3), seconds or a date; 0 without it."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
