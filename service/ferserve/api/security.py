"""Who may call: API keys, rates, and what browsers may be made to send."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
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


class Guard:
    """Lets a request pass or refuses it, before its body is read.

    Args:
        settings: Keys, limits, origins and hosts.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(key.get_secret_value() for key in settings.api_keys)
        self._needs_key = bool(settings.api_keys)
        self._origins = frozenset(settings.cors_origins)
        self._hosts = frozenset(settings.allowed_hosts)
        rate = settings.rate_limit
        self._limits: list[RateLimitItem] = parse_many(rate) if rate else []
        self._strategy = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._streams: Counter[str] = Counter()
        self._max_streams = max(1, settings.max_streams // STREAM_SHARE)

    def dependencies(self, *, counts: bool) -> list[Dependency]:
        """Returns dependencies of routes that ask for a key, where there are keys.

        Args:
            counts: Whether calls are counted, where there are limits.
        """

        async def with_key(
            request: Request,
            key: Annotated[str | None, Security(_KEY_HEADER)],
            bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        ) -> None:
            presented = key or (bearer.credentials if bearer else None)
            await self.admit(request, presented, counts=counts)

        async def without_key(request: Request) -> None:
            await self.admit(request, None)

        if self._needs_key:
            return [Depends(with_key)]
        return [Depends(without_key)] if self._limits and counts else []

    async def admit(
        self, connection: HTTPConnection, presented: str | None, *, counts: bool = True
    ) -> str:
        """Counts a call and asks for its key, where there are keys.

        Args:
            connection: Tells the address of a caller without a key; its state gets ``owner``, the
                name of the key.
            presented: The key that the caller sent.
            counts: Whether the call is counted.

        Returns:
            A name for the caller.

        Raises:
            RateLimited: It is one too many.
            Unauthorized: The key is none of the service's.
        """
        key = self._keys.find(presented) if presented else None
        caller = key or _address(connection)
        if counts:
            await self.count(caller)  # who guesses keys is counted too
        if self._needs_key and not key:
            raise Unauthorized("send one of the service's keys as X-API-Key or as a Bearer token")
        connection.state.owner = key
        return caller

    async def count(self, caller: str) -> None:
        """Counts one request, or one frame of a stream, in this process.

        Raises:
            RateLimited: It is one too many; the header ``Retry-After`` says when to come back.
        """
        for limit in self._limits:
            if not await self._strategy.hit(limit, caller):
                stats = await self._strategy.get_window_stats(limit, caller)
                wait = max(1, round(stats.reset_time - time.time() + 0.5))
                raise RateLimited(f"at most {limit} are allowed", {"Retry-After": str(wait)})

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Holds a caller's place for a stream.

        Raises:
            QueueFull: The caller has its share of them.
        """
        if self._streams[caller] >= self._max_streams:
            raise QueueFull(f"one caller may have {self._max_streams} streams")
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            self._streams += Counter()  # forgets those without any

    def check_head(self, headers: Mapping[str, str], *, acts: bool) -> None:
        """Refuses what a page of a stranger can make a browser send, and heads that cost time.

        Args:
            headers: Of a request or a handshake.
            acts: Whether it does more than read.

        Raises:
            ForbiddenOrigin: It is another page, or another name of this host.
            UnsupportedMediaType: The ``Content-Type`` is too long.
        """
        if len(headers.get("content-type", "")) > MAX_CONTENT_TYPE:
            raise UnsupportedMediaType(f"a Content-Type may have {MAX_CONTENT_TYPE} characters")
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
        """Lets pages of this service and of the allowed origins act, and whatever is no page.

        A page of this service is told by its browser, or by ``Host``, as proxies may change the
        scheme.

        Raises:
            ForbiddenOrigin: It is another page.
        """
        site, sent = headers.get("sec-fetch-site"), headers.get("origin")
        if (
            "*" in self._origins
            or site in ("same-origin", "none")
            or not (site or sent is not None)
        ):
            return
        try:
            origin = web_origin(sent or "")
            host = headers.get("host", "")
            scheme = origin.partition(":")[0]
            if origin in self._origins or origin == web_origin(f"{scheme}://{host}"):
                return
        except ValueError:
            pass  # it, or the host, is none
        raise ForbiddenOrigin("FERSERVE_CORS_ORIGINS does not name the page's origin")


def _address(connection: HTTPConnection) -> str:
    """Names a caller without a key; a household or a company has a /64 of IPv6."""
    host = connection.client.host if connection.client else "unknown"
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return f"address {host}"
    if isinstance(address, IPv6Address):
        if not address.ipv4_mapped:
            return f"address {address.exploded[:19]}::/64"
        address = address.ipv4_mapped
    return f"address {address}"
