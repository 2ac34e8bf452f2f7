"""Around the computation: event loop and HTTP parser, how bodies are read and answers written."""

import asyncio
import http.client
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from ferserve.api.uploads import FIELD, read_image
from ferserve.loadtest.payloads import Payload
from ferserve.recognizer import Recognizer
from ferserve.schemas import EmotionOptions, EmotionResponse
from ferserve.settings import Settings
from load import REPOSITORY, face, photo, photo_640
from peers.registry import as_base64, free_port
from peers.service_process import running
from tuning_images import photos
from tuning_measuring import Choice, Sample, Way, in_threads
from tuning_server import PROCESSOR_TIME

SERVER = Path(__file__).with_name("tuning_server.py")
CALLS = 50
CHUNK = 65_536
"""Bytes that uvicorn reads from a connection at a time."""

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def loops_and_parsers() -> Iterator[Choice]:
    """The service under each of uvicorn's event loops and HTTP parsers, one client."""
    loops = [name for name in ("asyncio", "uvloop") if name == "asyncio" or find_spec(name)]
    parsers = [name for name in ("h11", "httptools") if find_spec(name)]
    # ferserve.api.server leaves both to uvicorn, which takes the faster where it is installed.
    used = _loop_and_parser(loops[-1], parsers[-1])
    with ExitStack() as stack:
        servers = {
            _loop_and_parser(loop, parser): stack.enter_context(_server(loop, parser))
            for loop in loops
            for parser in parsers
        }
        for title, method, path, body in (
            ("GET /livez", "GET", "/livez", None),
            ("POST /v1/emotion, a face of 48×48", "POST", "/v1/emotion", face()),
        ):
            ways = [Way(name, _asking(port, method, path, body)) for name, port in servers.items()]
            yield Choice(f"Event loop and parser: {title}", "request", ways, used)


def answers() -> Iterator[Choice]:
    """An answer to JSON: FastAPI's way, pydantic's, and orjson's where it is installed."""
    for title, data in (
        ("1 face", photo()),
        ("12 faces", photos()["12 megapixels, 12 small faces"]),
    ):
        answer = asyncio.run(_answer(data))
        ways = {"FastAPI": _fastapi_app(answer), "model_dump_json": _pydantic_app(answer)}
        if find_spec("orjson"):
            ways["orjson"] = _orjson_app(answer)
        with asyncio.Runner() as runner:
            yield Choice(
                f"Writing an answer, {title}",
                "request",
                [Way(name, in_threads(_calls(runner, app))) for name, app in ways.items()],
                "model_dump_json",
                remark="A request to a small application that has its answer ready; routing and "
                "headers are in all figures.",
            )


def bodies() -> Iterator[Choice]:
    """The three forms of a body that the service reads."""
    limit = Settings().max_upload_bytes
    for title, image, kind in (
        ("a face, PNG", face(), "image/png"),
        ("a photo of 640×480, JPEG", photo_640(), "image/jpeg"),
    ):
        forms = {
            "the bare bytes": Payload(image, kind),
            "multipart form": as_multipart(image, kind),
            "base64 in JSON": as_base64(image),
        }
        with asyncio.Runner() as runner:
            yield Choice(
                f"Reading a body, {title}",
                "request",
                [
                    Way(name, in_threads(_reads(runner, payload, limit)))
                    for name, payload in forms.items()
                ],
                None,
                remark="The service's own `read_image`, without the HTTP parser.",
            )


def as_multipart(image: bytes, kind: str) -> Payload:
    """The image is a file of a form."""
    head = (
        f'--form\r\nContent-Disposition: form-data; name="{FIELD}"; filename="image"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    data = head.encode() + image + b"\r\n--form--\r\n"
    return Payload(data, "multipart/form-data; boundary=form")


def _loop_and_parser(loop: str, parser: str) -> str:
    return f"{loop}, {parser}"


@contextmanager
def _server(loop: str, parser: str) -> Iterator[int]:
    """Starts the service; gives its port."""
    port = free_port()
    command = [sys.executable, SERVER, loop, parser, str(port)]
    settings = {"PYTHONPATH": str(REPOSITORY), "FERSERVE_MODELS": "custom_cnn"}
    ready = f"http://127.0.0.1:{port}/readyz"
    with running(command, ready, settings, sorted(os.sched_getaffinity(0))):
        yield port


def _asking(port: int, method: str, path: str, body: bytes | None) -> Callable[[float], Sample]:
    """Asks again and again over one connection; processor time is the server's."""
    headers = {"Content-Type": "image/png"} if body else {}

    def measure(seconds: float) -> Sample:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def ask(*request: Any) -> bytes:
            connection.request(*request)
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"{request[1]} answered {answer.status}")
            return answer.read()

        count, used, started = 0, float(ask("GET", PROCESSOR_TIME)), time.monotonic()
        while not count or time.monotonic() < started + seconds:
            ask(method, path, body, headers)
            count += 1
        took = time.monotonic() - started
        used = float(ask("GET", PROCESSOR_TIME)) - used
        connection.close()
        return Sample(count, used, took)

    return measure


async def _answer(photo: bytes) -> EmotionResponse:
    recognizer = Recognizer(Settings(models=("custom_cnn",), default_model="custom_cnn"))
    await recognizer.start()
    try:
        recognition = await recognizer.recognize(photo, EmotionOptions())
    finally:
        await recognizer.close()
    return EmotionResponse(request_id="0" * 32, **dict(recognition))


def _fastapi_app(answer: EmotionResponse) -> FastAPI:
    app = FastAPI()

    @app.post("/", response_model_exclude_unset=True)
    async def respond() -> EmotionResponse:
        return answer

    return app


def _pydantic_app(answer: EmotionResponse) -> FastAPI:
    """As routes/emotion.py has it."""
    app = FastAPI()

    @app.post("/")
    async def respond() -> Response:
        return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")

    return app


def _orjson_app(answer: EmotionResponse) -> FastAPI:
    import orjson

    app = FastAPI()

    @app.post("/")
    async def respond() -> Response:
        document = answer.model_dump(mode="json", exclude_unset=True)
        return Response(orjson.dumps(document), media_type="application/json")

    return app


def _calls(runner: asyncio.Runner, app: ASGIApp) -> Callable[[], int]:
    """Returns a function that calls an application without HTTP."""
    scope = _scope([])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"answered {message['status']}")

    async def call() -> None:
        for _ in range(CALLS):
            await app(dict(scope), receive, send)

    return lambda: runner.run(call()) or CALLS


def _reads(runner: asyncio.Runner, payload: Payload, limit: int) -> Callable[[], int]:
    """Returns a function that reads a body as the service does."""
    chunks = [payload.data[at : at + CHUNK] for at in range(0, len(payload.data), CHUNK)]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": chunk is not chunks[-1]}
        for chunk in chunks
    ]
    scope = _scope([(b"content-type", payload.content_type.encode())])

    def receiver() -> Callable[[], Awaitable[dict[str, Any]]]:
        left = iter(messages)

        async def receive() -> dict[str, Any]:
            return next(left)

        return receive

    async def read() -> None:
        for _ in range(CALLS):
            await read_image(Request(scope, receiver()), limit, lambda _: None)

    return lambda: runner.run(read()) or CALLS


def _scope(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": headers,
    }
