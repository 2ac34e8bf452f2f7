"""API keys, rate limits and CORS."""

from collections.abc import AsyncIterator

import httpx
import pytest
from ferserve.api.security import Guard
from ferserve.errors import ForbiddenOrigin, QueueFull, RateLimited
from ferserve.settings import Settings
from in_process import serving
from limits.aio.storage import MemoryStorage
from pydantic import ValidationError
from starlette.requests import HTTPConnection

KEY, OTHER_KEY = "a-key-of-the-first-caller", "a-key-of-another-caller"
OPEN = ["/livez", "/readyz", "/docs", "/redoc", "/openapi.json", "/v1/policy"]
CLOSED = ["/v1/models", "/v1/models/first", "/v1/benchmark", "/metrics"]


@pytest.fixture
async def client(standin_models) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(standin_models, api_keys=f"{KEY}, {OTHER_KEY}") as client:
        yield client


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.headers["content-type"] == "application/problem+json", response.text
    assert (response.status_code, response.json()["code"]) == (status, code)


# Keys


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
async def test_a_key_opens_in_either_header(client, grey_crop, key):
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        response = await client.post("/v1/emotion", content=grey_crop, headers=headers)
        assert response.status_code == 200
        for path in CLOSED:
            assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": f"{KEY},{OTHER_KEY}"},
        {"X-API-Key": "ünknown-key".encode()},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
    ],
)
async def test_without_a_key_nothing_is_answered_and_no_body_is_read(client, headers):
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    response = await client.post("/v1/emotion", content=body(), headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    for path in CLOSED:
        assert_problem(await client.get(path, headers=headers), 401, "unauthorized")


async def test_what_tells_nothing_of_anyone_stays_open(client):
    for path in OPEN:
        assert (await client.get(path)).status_code == 200


async def test_the_documentation_asks_for_keys_only_where_there_are_some(client, standin_models):
    described = (await client.get("/openapi.json")).json()
    assert set(described["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    assert described["paths"]["/v1/emotion"]["post"]["security"]
    async with serving(standin_models) as without_keys:
        described = (await without_keys.get("/openapi.json")).json()
    assert "securitySchemes" not in described["components"]


async def test_keys_stand_in_no_log_and_in_no_answer(client, grey_crop, caplog):
    wrong = "a-wrong-key-to-look-for"
    with caplog.at_level("DEBUG"):
        good = await client.post("/v1/emotion", content=grey_crop, headers={"X-API-Key": KEY})
        bad = await client.post("/v1/emotion", content=grey_crop, headers={"X-API-Key": wrong})
    for text in (caplog.text, good.text, bad.text, repr(Settings(api_keys=KEY))):
        assert KEY not in text
        assert wrong not in text


def test_a_wrong_setting_shows_no_key():
    with pytest.raises(ValidationError) as refused:
        Settings(api_keys=f"{KEY},secret", max_queue=8)
    assert KEY not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("keys", ["short", f"{KEY},short", f"{KEY},geheim-schlüssel-ß"])
def test_a_key_that_could_be_guessed_is_refused_at_the_start(keys):
    with pytest.raises(ValidationError, match="FERSERVE_API_KEYS needs at least 16 characters"):
        Settings(api_keys=keys)


def test_keys_are_compared_whole():
    guard = Guard(Settings(api_keys=(KEY, OTHER_KEY)))
    assert guard.find_key(KEY) == "key 0"
    assert guard.find_key(OTHER_KEY) == "key 1"
    assert guard.find_key(KEY[:16]) is None
    assert Guard(Settings()).find_key("") is None


# Rates


async def test_more_requests_than_allowed_are_refused_until_a_time_that_is_told(
    standin_models, grey_crop
):
    async with serving(standin_models, rate_limit="3/year") as client:
        codes = [
            (await client.post("/v1/emotion", content=grey_crop)).status_code for _ in range(3)
        ]
        assert codes == [200, 200, 200]
        refused = await client.post("/v1/emotion", content=grey_crop)
        assert_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 366 * 24 * 3600
        for path in ("/livez", "/readyz", "/metrics", "/v1/policy"):
            assert (await client.get(path)).status_code == 200


async def test_callers_are_counted_by_key(standin_models):
    async with serving(standin_models, rate_limit="2/year", api_keys=(KEY, OTHER_KEY)) as client:

        async def code(**headers: str) -> int:
            return (await client.get("/v1/models", headers=headers)).status_code

        assert [await code(**{"X-API-Key": KEY}) for _ in range(3)] == [200, 200, 429]
        assert await code(Authorization=f"Bearer {KEY}") == 429
        assert await code(**{"X-API-Key": OTHER_KEY}) == 200


async def test_who_guesses_keys_is_counted_by_address(standin_models):
    async with serving(standin_models, rate_limit="2/year", api_keys=(KEY,)) as client:
        codes = [
            (await client.get("/v1/models", headers={"X-API-Key": f"guess {n}"})).status_code
            for n in range(3)
        ]
        assert codes == [401, 401, 429]
        assert (await client.get("/v1/models", headers={"X-API-Key": KEY})).status_code == 200


async def test_counts_that_have_ended_are_looked_for_once_a_second(monkeypatch):
    looks = []

    async def look(_self: MemoryStorage) -> None:
        looks.append(1)

    monkeypatch.setattr(MemoryStorage, "_MemoryStorage__schedule_expiry", look)
    guard = Guard(Settings(rate_limit="100/hour"))
    for number in range(20):
        await guard.count(f"address {number}")
    assert 1 <= len(looks) <= 2


async def test_several_limits_all_hold(standin_models):
    async with serving(standin_models, rate_limit="100/hour;2/year") as client:
        codes = [(await client.get("/v1/models")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]


@pytest.mark.parametrize("rate", ["fast", "0", "10 per fortnight"])
def test_a_rate_that_cannot_be_read_is_refused_at_the_start(rate):
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(rate_limit=rate)


# Browsers


async def test_other_pages_may_call_only_where_the_operator_says_so(standin_models):
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with serving(standin_models) as client:
        response = await client.get("/v1/models", headers=asking)
        assert "access-control-allow-origin" not in response.headers
        assert_problem(
            await client.options("/v1/emotion", headers=asking), 405, "method_not_allowed"
        )
    async with serving(standin_models, cors_origins="https://app.example") as client:
        preflight = await client.options("/v1/emotion", headers=asking)
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        response = await client.get("/v1/models", headers=asking)
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert "X-Request-ID" in response.headers["access-control-expose-headers"]
        stranger = await client.get("/v1/models", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in stranger.headers


async def test_a_page_that_may_call_sends_its_key(standin_models, grey_crop):
    origin = {"Origin": "https://app.example"}
    async with serving(
        standin_models, cors_origins="https://app.example", api_keys=(KEY,)
    ) as client:
        asking = {"Access-Control-Request-Method": "POST",
                  "Access-Control-Request-Headers": "x-api-key,content-type"}  # fmt: skip
        preflight = await client.options("/v1/emotion", headers=origin | asking)
        assert preflight.status_code == 200
        refused = await client.post("/v1/emotion", content=grey_crop, headers=origin)
        assert_problem(refused, 401, "unauthorized")
        assert refused.headers["access-control-allow-origin"] == "https://app.example"


async def test_a_page_can_read_a_fault_of_ours_too(standin_models, photo):
    origin = {"Origin": "https://app.example"}
    async with serving(standin_models, cors_origins="https://app.example") as client:
        client.app.state.recognizer._preparer._detector = None
        failed = await client.post("/v1/emotion", content=photo("astronaut"), headers=origin)
        assert_problem(failed, 500, "internal_error")
        assert failed.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://faces.example", "faces.example"),
        ("https://faces.example", "faces.example:443"),
        ("https://faces.example", "Faces.Example"),
        ("http://faces.example", "faces.example:80"),
        ("http://FACES.example:80", "faces.example"),
        ("http://faces.example:8000", "faces.example:8000"),
        ("http://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000"),
        ("https://app.example", "faces.example"),
        ("https://app.example:443", "faces.example"),
    ],
)
def test_a_page_of_the_service_or_of_an_allowed_origin_may_stream(origin, host):
    guard = Guard(Settings(cors_origins="https://App.example/"))
    guard.require_origin({"origin": origin, "host": host})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "faces.example"),
        ("https://faces.example", "faces.example:80"),
        ("https://faces.example:8443", "faces.example"),
        ("http://faces.example.evil.example", "faces.example"),
        ("http://app.example", "faces.example"),
        ("http://faces.example@evil.example", "evil.example"),
        ("null", "faces.example"),
        ("null", "null"),
        ("", ""),
        ("https://", ""),
        ("https://faces.example", "faces.example/path"),
        ("https://faces.example", "faces.example:port"),
    ],
)
def test_another_page_may_not_stream(origin, host):
    guard = Guard(Settings(cors_origins="https://app.example"))
    with pytest.raises(ForbiddenOrigin):
        guard.require_origin({"origin": origin, "host": host})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://test", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_browser_may_not_be_made_to_post_for_a_strangers_page(
    standin_models, grey_crop, headers, status
):
    async with serving(standin_models, cors_origins="https://app.example") as client:
        answer = await client.post("/v1/emotion", content=grey_crop, headers=headers)
        assert answer.status_code == status
        assert (await client.get("/livez", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("app.localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("faces.example:8443", 200),
        ("rebound.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("[::1", 403),
    ],
)
async def test_only_names_of_this_host_are_answered(standin_models, host, status):
    async with serving(standin_models, allowed_hosts="Faces.Example:8443") as client:
        assert (await client.get("/livez", headers={"Host": host})).status_code == status


@pytest.mark.parametrize(
    ("host", "given", "hosts"),
    [
        ("127.0.0.1", (), ("localhost",)),
        ("::1", (), ("localhost",)),
        ("localhost", (), ("localhost",)),
        ("0.0.0.0", (), ()),
        ("127.0.0.1", ("*",), ("*",)),
    ],
)
def test_where_it_listens_on_loopback_it_knows_only_local_names(host, given, hosts):
    settings = Settings(host=host, allowed_hosts=given).for_listening()
    assert settings.allowed_hosts == hosts


# Shares


def caller(address: str) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [], "client": (address, 1)})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
async def test_an_address_of_ipv6_counts_with_its_network(one, other, same):
    guard = Guard(Settings(rate_limit="1/year"))
    await guard.admit(caller(one), None)
    if same:
        with pytest.raises(RateLimited):
            await guard.admit(caller(other), None)
    else:
        await guard.admit(caller(other), None)


def test_one_caller_holds_a_quarter_of_the_streams():
    guard = Guard(Settings(max_streams=8))
    with guard.stream("a"), guard.stream("b"):
        with guard.stream("a"), pytest.raises(QueueFull), guard.stream("a"):
            pass
        with guard.stream("a"):
            pass


async def test_a_long_content_type_is_refused_before_it_is_parsed(client):
    kind = "multipart/form-data; boundary=" + 2000 * "x"
    answer = await client.post("/v1/emotion", content=b"x", headers={"Content-Type": kind})
    assert_problem(answer, 415, "unsupported_media_type")
