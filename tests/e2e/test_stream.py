"""``WS /v1/emotion/stream`` of the real server, as a client sees it."""

import asyncio
import base64
import io
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

KEY = "~~a-key-of-the-stream??"


def astronaut(shift: int = 0) -> bytes:
    """A JPEG of the astronaut, moved to the right by so many pixels."""
    file = io.BytesIO()
    Image.fromarray(np.roll(skimage.data.astronaut(), shift, axis=1)).save(file, "JPEG")
    return file.getvalue()


def stream(server, query: str = "", **options: Any) -> connect:
    url = f"ws://127.0.0.1:{server.port}/v1/emotion/stream{query}"
    return connect(url, compression=None, max_queue=None, **options)


async def message(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), 60))


async def ask(socket: ClientConnection, frame: bytes) -> dict[str, Any]:
    await socket.send(frame)
    return await message(socket)


async def rest(socket: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """All messages up to the close, and its code."""
    messages = []
    try:
        while True:
            messages.append(await message(socket))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code


def assert_counted(messages: list[dict[str, Any]], sent: int) -> None:
    """Each message says how many frames went before it, and the last one adds up."""
    *answers, last = messages
    for answered, answer in enumerate(answers, 1):
        assert answer["frame"] == answered + answer["dropped"]
    end = last["end"]
    assert end == {"received": sent, "answered": len(answers), "dropped": sent - len(answers)}


@contextmanager
def counted_by_metrics(server) -> Iterator[dict[str, float]]:
    """Yields what is, in the end, how much the counters of frames have grown."""

    def read() -> dict[str, float]:
        page = httpx.get(f"{server.base_url}/metrics").text
        found = re.findall(r'^ferserve_stream_frames_total\{outcome="(\w+)"\} (\S+)', page, re.M)
        return {outcome: float(value) for outcome, value in found}

    growth: dict[str, float] = {}
    before = read()
    yield growth
    growth.update({outcome: value - before[outcome] for outcome, value in read().items()})


# Frames


async def test_a_moving_face_keeps_its_track_and_is_answered_as_everywhere(server):
    async with stream(server, "?landmarks=true&detect=every-frame") as socket:
        answers = [await ask(socket, astronaut(shift)) for shift in range(0, 160, 20)]
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60) as client:
        single = await client.post("/v1/emotion?landmarks=true", content=astronaut(140))
    for number, answer in enumerate(answers):
        (face,) = answer["faces"]
        assert (answer["frame"], answer["dropped"], face["track"]) == (number + 1, 0, 1)
        assert abs(face["box"]["x"] - (181 + 20 * number)) < 10
        assert face["dominant_emotion"] == "happy"
        assert sum(face["emotions_smoothed"].values()) == pytest.approx(1, abs=1e-5)
    assert answers[0]["faces"][0]["emotions_smoothed"] == answers[0]["faces"][0]["emotions"]
    last, expected = answers[-1], single.json()
    assert set(last) == set(expected) | {"frame", "dropped"}
    assert (last["model"], last["image"]) == (expected["model"], expected["image"])
    (face,), (same,) = last["faces"], expected["faces"]
    assert set(face) == set(same) | {"track", "emotions_smoothed"}
    assert face["landmarks"] == same["landmarks"]
    assert face["emotions"] == pytest.approx(same["emotions"], abs=1e-5)
    assert last["request_id"] == socket.response.headers["X-Request-ID"]


async def test_without_a_time_constant_nothing_is_smoothed(server):
    async with stream(server, "?smoothing_seconds=0") as socket:
        for shift in (0, 20):
            (face,) = (await ask(socket, astronaut(shift)))["faces"]
            assert face["emotions_smoothed"] == face["emotions"]


async def test_a_fast_producer_that_reads_late_loses_frames_but_no_count(server):
    frames = [astronaut(shift) for shift in range(0, 100, 5)]
    with counted_by_metrics(server) as growth:
        async with stream(server) as socket:
            for frame in frames:
                await socket.send(frame)
            await socket.send("end")
            messages, code = await rest(socket)
    assert code == 1000
    assert_counted(messages, sent=len(frames))
    end = messages[-1]["end"]
    assert end["dropped"] > 0
    assert messages[-2]["frame"] == len(frames)  # the newest
    assert growth == {"answered": end["answered"], "refused": 0, "dropped": end["dropped"]}


async def test_a_bad_frame_gets_its_problem_and_the_stream_goes_on(server):
    async with stream(server) as socket:
        good = await ask(socket, astronaut())
        text = await ask(socket, b"no image")
        broken = await ask(socket, astronaut()[:5000])
        huge = await ask(socket, bytes(4 * 1024 * 1024 + 1))
        cut_closed = await ask(socket, astronaut()[:5000] + b"\xff\xd9")
        again = await ask(socket, astronaut().removesuffix(b"\xff\xd9"))
    assert (text["frame"], text["problem"]["code"]) == (2, "unsupported_media_type")
    assert (broken["frame"], broken["problem"]["code"]) == (3, "undecodable_image")
    assert (huge["frame"], huge["problem"]["code"]) == (4, "payload_too_large")
    assert (cut_closed["frame"], cut_closed["problem"]["code"]) == (5, "undecodable_image")
    assert text["problem"]["instance"] == "/v1/emotion/stream"
    assert text["problem"]["request_id"] == good["request_id"]
    assert again["faces"][0]["track"] == good["faces"][0]["track"]


async def test_two_streams_share_the_service(server):
    async def film(frames: int) -> list[dict[str, Any]]:
        async with stream(server) as socket:
            return [await ask(socket, astronaut(20 * number)) for number in range(frames)]

    first, second = await asyncio.gather(film(6), film(6))
    for answers in (first, second):
        assert [answer["frame"] for answer in answers] == [1, 2, 3, 4, 5, 6]
        assert {answer["faces"][0]["track"] for answer in answers} == {1}


# Endings


async def test_a_frame_far_over_the_limit_in_bytes_ends_the_stream(server):
    async with stream(server) as socket:
        with suppress(ConnectionClosed):
            await socket.send(bytes(12 * 1024 * 1024))
            await socket.recv()
    # The service does not read on, so the close frame may be lost on the way.
    assert socket.close_code in (1009, 1006)


async def test_a_text_message_is_no_frame(server):
    async with stream(server) as socket:
        await ask(socket, astronaut())
        await socket.send("hello")
        messages, code = await rest(socket)
    assert code == 1003
    assert messages == [{"end": {"received": 1, "answered": 1, "dropped": 0}}]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("model=nobody", "unknown_model"),
        ("max_faces=10000", "invalid_parameter"),
        ("detect=maybe", "invalid_parameter"),
        ("smoothing_seconds=-1", "invalid_parameter"),
        ("api_key=secret-in-the-query", "invalid_parameter"),
    ],
)
async def test_a_bad_option_is_told_before_the_stream_closes(server, query, code):
    async with stream(server, f"?{query}") as socket:
        (refusal,), close = await rest(socket)
    assert (close, refusal["problem"]["code"]) == (4422, code)
    assert refusal["problem"]["status"] == 422
    assert refusal["retry_after"] is None


async def test_pages_of_other_origins_may_not_connect(server):
    async with stream(server, origin="https://other.example") as socket:
        (refusal,), code = await rest(socket)
    assert (code, refusal["problem"]["code"]) == (4403, "forbidden_origin")
    async with stream(server, origin=server.base_url) as socket:  # a page of ours
        assert "faces" in await ask(socket, astronaut())


async def test_the_log_has_a_line_for_a_stream_without_query_and_address(server):
    async with stream(server, "?model=custom_cnn&max_faces=3") as socket:
        await socket.send("end")
        await rest(socket)
    identity = socket.response.headers["X-Request-ID"]
    (line,) = [line for line in server.log_lines(identity) if "WS " in line]
    assert json.loads(line)["message"].startswith("WS /v1/emotion/stream 1000 ")
    with pytest.raises(InvalidStatus, match="403"):
        await connect(f"ws://127.0.0.1:{server.port}/v1/emotion/streams")
    assert server.log_lines("WS /v1/emotion/streams 403 ")
    log = server.log.read_text()
    assert "max_faces=3" not in log
    assert "secret-in-the-query" not in log
    assert "127.0.0.1:" not in log.replace(f"127.0.0.1:{server.port}", "")


# A server with keys and few places


@pytest.fixture(scope="module")
def one_place(start_server, tmp_path_factory):
    with start_server(
        tmp_path_factory.mktemp("strict") / "log",
        api_keys=KEY,
        cors_origins="https://app.example",
        max_streams=1,
    ) as server:
        yield server


@pytest.fixture
async def strict_server(one_place):
    """The server with its one place free: it learns a moment later that the last client left."""
    async with asyncio.timeout(60):
        while "ferserve_streams_open 0.0" not in metrics_of(one_place):  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.05)
    return one_place


def metrics_of(server) -> str:
    return httpx.get(f"{server.base_url}/metrics", headers={"X-API-Key": KEY}).text


def as_subprotocol(key: str) -> str:
    return "ferserve.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocols": ["ferserve.v1", as_subprotocol(KEY)]},
        {"additional_headers": {"X-API-Key": KEY}},
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
    ],
    ids=["subprotocol", "X-API-Key", "Bearer"],
)
async def test_a_key_opens_the_stream(strict_server, options):
    async with stream(strict_server, origin="https://app.example", **options) as socket:
        assert "faces" in await ask(socket, astronaut())
        assert socket.subprotocol in (None, "ferserve.v1")


@pytest.mark.parametrize(
    "protocols",
    [[], ["ferserve.v1"], ["ferserve.v1", as_subprotocol(KEY[:-1])], ["ferserve.key.x"]],
)
async def test_without_a_key_the_stream_closes_with_4401(strict_server, protocols):
    async with stream(strict_server, subprotocols=protocols or None) as socket:
        (refusal,), code = await rest(socket)
    assert (code, refusal["problem"]["code"]) == (4401, "unauthorized")


async def test_where_no_place_is_left_the_stream_says_when_to_come_back(strict_server):
    protocols = ["ferserve.v1", as_subprotocol(KEY)]
    async with stream(strict_server, subprotocols=protocols) as first:
        await ask(first, astronaut())
        async with stream(strict_server, subprotocols=protocols) as second:
            (refusal,), code = await rest(second)
        assert (code, refusal["problem"]["code"], refusal["retry_after"]) == (4429, "queue_full", 1)
    log = strict_server.log.read_text()
    assert KEY not in log
    assert as_subprotocol(KEY) not in log


# The end


async def test_at_the_end_of_the_service_frames_that_it_received_are_answered(
    start_server, tmp_path
):
    file = io.BytesIO()
    Image.new("RGB", (6000, 5000)).save(file, "PNG", compress_level=1)  # slower than the notice
    with start_server(tmp_path / "log", notice_seconds=0.01) as server:
        async with stream(server) as socket:
            await socket.send(file.getvalue())
            await (await socket.ping())
            server.process.send_signal(signal.SIGTERM)
            (answer, last), code = await rest(socket)
            assert (answer["faces"], code) == ([], 1012)
            assert last == {"end": {"received": 1, "answered": 1, "dropped": 0}}
            assert server.process.wait(30) == 0


async def test_streams_are_counted_by_the_rate_limit_and_end_with_the_service(
    start_server, tmp_path
):
    with start_server(tmp_path / "log", rate_limit="1/year") as server:
        async with stream(server) as first, stream(server) as second:
            (refusal,), code = await rest(second)
            assert (code, refusal["problem"]["code"]) == (4429, "rate_limited")
            assert refusal["retry_after"] >= 1
            await ask(first, astronaut())
            server.process.send_signal(signal.SIGTERM)
            assert await rest(first) == (
                [{"end": {"received": 1, "answered": 1, "dropped": 0}}],
                1012,
            )
        assert server.process.wait(30) == 0
