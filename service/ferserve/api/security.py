"""Who may call: API keys, and how often."""

import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection

from ferserve.errors import ForbiddenOrigin, RateLimited, Unauthorized
from ferserve.settings import Settings, web_origin

_KEY_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="ApiKey", auto_error=False)
_BEARER = HTTPBearer(scheme_name="Bearer", auto_error=False)


class ApiKeys:
    """The keys that may call; holds their hashes only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def find(self, presented: str) -> str | None:
        """Returns a name for the key, or None for one that is not known.

        Takes the same time for every key: hashes have one length, and all are compared.
        """
        digest = sha256(presented.encode()).digest()
        matches = [compare_digest(digest, known) for known in self._digests]
        return f"key {matches.index(True)}" if any(matches) else None


class RateLimiter:
    """Counts requests in this process, by caller.

    Args:
        limits: All hold, such as ``10/second`` and ``1000/hour``.
    """

    def __init__(self, limits: Iterable[RateLimitItem]) -> None:
        self._limits = list(limits)
        self._strategy = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def hit(self, caller: str) -> None:
        """Counts one request.

        Raises:
            RateLimited: It is one too many; the header ``Retry-After`` says when to come back.
        """
        for limit in self._limits:
            if not await self._strategy.hit(limit, caller):
                stats = await self._strategy.get_window_stats(limit, caller)
                wait = max(1, round(stats.reset_time - time.time() + 0.5))
                raise RateLimited(f"at most {limit} are allowed", {"Retry-After": str(wait)})


class Guard:
    """Lets a request pass or refuses it, before its body is read.

    Args:
        settings: Keys, limits and origins.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(key.get_secret_value() for key in settings.api_keys)
        self._needs_key = bool(settings.api_keys)
        self._counts = bool(settings.rate_limit)
        self._origins = frozenset(settings.cors_origins)
        limits = parse_many(settings.rate_limit) if settings.rate_limit else ()
        self._limiter = RateLimiter(limits)

    @property
    def calls(self) -> list[Dependency]:
        """Dependencies of routes that cost something: key and rate, where there are such limits."""
        if self._needs_key:
            return [Depends(self._check_key_and_rate)]
        return [Depends(self._check_rate)] if self._counts else []

    @property
    def reads(self) -> list[Dependency]:
        """Dependencies of routes that only tell something: key."""
        return [Depends(self._check_key)] if self._needs_key else []

    async def admit(self, connection: HTTPConnection, presented: str | None) -> None:
        """Counts a call and asks for its key, where there are keys.

        Args:
            connection: Tells the address of a caller without a key.
            presented: The key that the caller sent.

        Raises:
            RateLimited: It is one too many.
            Unauthorized: The key is none of the service's.
        """
        caller = self._keys.find(presented) if presented else None
        await self._limiter.hit(caller or _address(connection))  # who guesses keys is counted too
        if self._needs_key:
            _require(caller)

    def require_origin(self, headers: Mapping[str, str]) -> None:
        """Lets pages open a WebSocket, of which browsers do not ask beforehand.

        Pages of this service may, told by ``Host`` as proxies may change the scheme, and those of
        the origins that the operator allows.

        Args:
            headers: Of the handshake. Without ``Origin`` it is no page that asks.

        Raises:
            ForbiddenOrigin: It is another page.
        """
        sent = headers.get("origin")
        if sent is None or "*" in self._origins:
            return
        try:
            origin = web_origin(sent)
            host = headers.get("host", "")
            if origin in self._origins or origin == web_origin(
                f"{sent.partition(':')[0]}://{host}"
            ):
                return
        except ValueError:
            pass  # it, or the host, is none
        raise ForbiddenOrigin("FERSERVE_CORS_ORIGINS does not name the page's origin")

    async def _check_rate(self, request: Request) -> None:
        await self.admit(request, None)

    async def _check_key_and_rate(
        self,
        request: Request,
        key: Annotated[str | None, Security(_KEY_HEADER)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> None:
        await self.admit(request, _presented(key, bearer))

    async def _check_key(
        self,
        key: Annotated[str | None, Security(_KEY_HEADER)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> None:
        presented = _presented(key, bearer)
        _require(self._keys.find(presented) if presented else None)


def _presented(key: str | None, bearer: HTTPAuthorizationCredentials | None) -> str | None:
    return key or (bearer.credentials if bearer else None)


def _require(caller: str | None) -> None:
    if caller is None:
        raise Unauthorized("send one of the service's keys as X-API-Key or as a Bearer token")


def _address(connection: HTTPConnection) -> str:
    return f"address {connection.client.host if connection.client else 'unknown'}"
