"""Who may call: API keys, rates, and what browsers may be made to send."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyHeader, HTTPBearer
from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection

from ferserve.errors import (
    ForbiddenOrigin,
    QueueFull,
    RateLimited,
    Unauthorized,
    UnsupportedMediaType,
)
from ferserve.settings import Settings, web_origin

MAX_CONTENT_TYPE = 1024
"""Most bytes of a ``Content-Type``: a long one takes long to parse."""

STREAM_SHARE = 4
"""One caller holds at most this part of all streams."""

_DESCRIBED = [
    Security(APIKeyHeader(name="X-API-Key", scheme_name="ApiKey", auto_error=False)),
    Security(HTTPBearer(scheme_name="Bearer", auto_error=False)),
]
"""For the API's description; ``presented_key`` reads them."""


class _Counters(MemoryStorage):
    """Looks once a second for counts that have ended: at each hit it would go through them all."""

    _next_look = 0.0

    async def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 1
            await super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]


class Guard:
    """Lets a request pass or refuses it, before its body is read."""

    def __init__(self, settings: Settings) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in settings.api_keys]
        self._origins = frozenset(settings.cors_origins)
        self._hosts = frozenset(host.lower().partition(":")[0] for host in settings.allowed_hosts)
        rate = settings.rate_limit
        self._limits: list[RateLimitItem] = parse_many(rate) if rate else []
        self._strategy = SlidingWindowCounterRateLimiter(_Counters())
        self._streams: Counter[str] = Counter()
        self._max_streams = max(1, settings.max_streams // STREAM_SHARE)

    def dependencies(self, *, counts: bool) -> list[Dependency]:
        """Returns dependencies of routes that ask for a key and count calls, where that is set."""

        async def admit(request: Request) -> None:
            await self.admit(request, presented_key(request.headers), counts=counts)

        if self._digests:
            return [*_DESCRIBED, Depends(admit)]
        return [Depends(admit)] if self._limits and counts else []

    async def admit(
        self, connection: HTTPConnection, presented: str | None, *, counts: bool = True
    ) -> str:
        """Counts a call, asks for its key, where there are keys, and returns the caller's name.

        The connection's state gets ``owner``, the name of the key.

        Raises:
            RateLimited: It is one too many.
            Unauthorized: The key is not one of the service's.
        """
        key = self.find_key(presented or "")
        caller = key or _address(connection)
        if counts:
            await self.count(caller)  # who guesses keys is counted too
        if self._digests and not key:
            raise Unauthorized("send one of the service's keys as X-API-Key or as a Bearer token")
        connection.state.owner = key
        return caller

    def find_key(self, presented: str) -> str | None:
        """Returns a name for a key, or None for one that is not known.

        Takes the same time for every key: hashes have one length, and all are compared.
        """
        digest = _digest(presented)
        matches = [compare_digest(digest, known) for known in self._digests]
        return f"key {matches.index(True)}" if any(matches) else None

    async def count(self, caller: str) -> None:
        """Counts a request, or a frame of a stream; RateLimited where it is one too many."""
        for limit in self._limits:
            if not await self._strategy.hit(limit, caller):
                stats = await self._strategy.get_window_stats(limit, caller)
                wait = max(1, round(stats.reset_time - time.time() + 0.5))
                raise RateLimited(f"at most {limit} are allowed", {"Retry-After": str(wait)})

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Holds a caller's place for a stream; QueueFull where the caller has its share of them."""
        if self._streams[caller] >= self._max_streams:
            raise QueueFull(f"one caller may have at most {self._max_streams} streams")
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            self._streams += Counter()  # forgets those without any

    def check_head(self, headers: Mapping[str, str], *, acts: bool) -> None:
        """Refuses what a page of a stranger can make a browser send, and heads that cost time.

        ``acts`` says that the request does more than read.

        Raises:
            ForbiddenOrigin: It is another page, or another name of this host.
            UnsupportedMediaType: The ``Content-Type`` is too long.
        """
        if len(headers.get("content-type", "")) > MAX_CONTENT_TYPE:
            raise UnsupportedMediaType(f"Content-Type: at most {MAX_CONTENT_TYPE} characters")
        if self._hosts and not self._is_allowed(headers.get("host", "")):
            raise ForbiddenOrigin("FERSERVE_ALLOWED_HOSTS does not name the request's Host")
        if acts:
            self.require_origin(headers)

    def _is_allowed(self, host: str) -> bool:
        """Whether no page can have given this name to our address (DNS rebinding)."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            return bool(ip_address(name))
        except ValueError:
            is_local = name == "localhost" or name.endswith(".localhost")
            return not host or is_local or not self._hosts.isdisjoint((name, "*"))

    def require_origin(self, headers: Mapping[str, str]) -> None:
        """Lets pages of this service and of the allowed origins act, and whatever is not a page.

        A page of this service is told by its browser, or by ``Host``, as proxies may change the
        scheme.

        Raises:
            ForbiddenOrigin: It is another page.
        """
        site, sent = headers.get("sec-fetch-site"), headers.get("origin")
        is_not_a_page = not site and sent is None
        if is_not_a_page or site in ("same-origin", "none") or "*" in self._origins:
            return
        try:
            origin = web_origin(sent or "")
            scheme = origin.partition(":")[0]
            if origin in self._origins or origin == web_origin(f"{scheme}://{headers['host']}"):
                return
        except (KeyError, ValueError):
            pass  # it, or the host, is none
        raise ForbiddenOrigin("FERSERVE_CORS_ORIGINS does not name the page's origin")


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Returns the key that the headers of a request or a handshake carry."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key") or (token if scheme.lower() == "bearer" else None)


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _address(connection: HTTPConnection) -> str:
    """Names a caller without a key; a household or a company has a /64 of IPv6."""
    host = connection.client.host if connection.client else "unknown"
    try:
        address: IPv4Address | IPv6Address | IPv6Network = ip_address(host.partition("%")[0])
    except ValueError:
        return f"address {host}"
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Network((address, 64), strict=False)
    return f"address {address}"
