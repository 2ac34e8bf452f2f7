"""Callers that hold or flood connections: what they send costs them little."""

import base64
import io
import json
import os
import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from costly import progressive
from hostile import FORM, MEBI, http, part

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
URLENCODED = "application/x-www-form-urlencoded"
Flood = Callable[[int], list[int]]
"""Takes the server's port; returns the statuses of its answers."""


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


@contextmanager
def stream(port: int, query: str = "") -> Iterator[socket.socket]:
    """A WebSocket after its handshake."""
    head = (
        f"GET /v1/emotion/stream{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
    )
    with connected(port) as connection:
        connection.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield connection


def frame(data: bytes, opcode: int = 2, *, final: bool = True, length: int | None = None) -> bytes:
    """A masked frame, with a mask of zeros."""
    size = len(data) if length is None else length
    if size < 126:
        head = bytes([0x80 * final | opcode, 0x80 | size])
    else:
        head = bytes([0x80 * final | opcode, 0xFF]) + size.to_bytes(8, "big")
    return head + bytes(4) + data


def send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server may have closed it, or read no more
        connection.settimeout(3)
        connection.sendall(data)


def statuses(connection: socket.socket) -> list[int]:
    """Reads until the server closes."""
    received = b""
    with suppress(OSError):
        while more := connection.recv(65536):
            received += more
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


def sent(make: Callable[[], bytes]) -> Flood:
    """Sends what is made when it is wanted: together the floods would fill the memory."""

    def flood(port: int) -> list[int]:
        with connected(port) as connection:
            send(connection, make())
            return statuses(connection)

    return flood


def unfinished_heads(port: int) -> list[int]:
    """More connections than the service keeps, each with a head that does not end."""
    with ExitStack() as held:
        for _ in range(700):
            connection = held.enter_context(connected(port))
            send(connection, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + 30_000 * b"y")
    return []


def unfinished_frames(port: int) -> list[int]:
    """As many streams as one caller may have, each with most of a large frame."""
    with ExitStack() as held:
        for _ in range(16):
            connection = held.enter_context(stream(port))
            send(connection, frame(bytes(7 * MEBI), length=8 * MEBI))
    return []


def streamed(make: Callable[[], bytes], query: str = "") -> Flood:
    def flood(port: int) -> list[int]:
        with stream(port, query) as connection:
            send(connection, make())
        return []

    return flood


def posted(path: str, content_type: str, body: bytes) -> bytes:
    return http(body, content_type, path=path)


def inference(**more: object) -> bytes:
    tensor = {"name": "faces", "datatype": "UINT8", "shape": [1, 48, 48], "data": []}
    document = {"inputs": [tensor], "outputs": []} | more
    return posted("/v2/models/custom_cnn/infer", "application/json", json.dumps(document).encode())


def archive() -> bytes:
    """A zip whose pictures would take a decoder for hours."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for emotion in EMOTIONS:
            zipped.writestr(f"{emotion}/a.jpg", progressive(3000, 170))
        zipped.writestr(f"{EMOTIONS[0]}/ballast.jpg", os.urandom(19 * MEBI))
    return file.getvalue()


def benchmark(port: int) -> list[int]:
    """Has it run, and cancels it."""
    url = f"http://127.0.0.1:{port}/v1/benchmark"
    accepted = httpx.post(url, files={"file": archive()}, timeout=60)
    job = accepted.json().get("id", "none")
    with httpx.stream("GET", f"{url}/{job}/events", timeout=60) as events:
        for line in events.iter_lines():
            if "finished" in line:
                break
    return [accepted.status_code, httpx.delete(f"{url}/{job}").status_code]


def floods() -> dict[str, Flood]:
    """Each under a name of its own."""
    end = b"--x--\r\n"
    tiny_chunks = http(headers=("Transfer-Encoding: chunked",)).replace(
        b"Content-Length: 0\r\n", b""
    )
    return {
        "a Content-Type of a megabyte": sent(
            lambda: posted("/v1/emotion", FORM + MEBI * ";", b"x")
        ),
        "a Content-Type of 30 kB": sent(lambda: posted("/v1/emotion", FORM + 30_000 * ";", b"x")),
        "a head that does not end": sent(lambda: b"GET / HTTP/1.1\r\nX: " + 40 * MEBI * b"y"),
        "an address that does not end": sent(lambda: b"GET /" + 40 * MEBI * b"y"),
        "tiny headers": sent(lambda: b"GET / HTTP/1.1\r\n" + 5_000_000 * b"a:\r\n"),
        "many heads that do not end": unfinished_heads,
        "pipelined requests": sent(lambda: 200_000 * b"GET /livez HTTP/1.1\r\n\r\n"),
        "chunks of a byte": sent(lambda: tiny_chunks + 6_000_000 * b"1\r\nx\r\n"),
        "a chunk's extension": sent(lambda: tiny_chunks + b"1;a=" + 40 * MEBI * b"b"),
        "trailers": sent(lambda: tiny_chunks + b"0\r\n" + 5_000_000 * b"a:b\r\n"),
        "frames that do not end": unfinished_frames,
        "a frame of 40 MB": streamed(lambda: frame(40 * MEBI * b"x")),
        "a frame of 40 MB to a refused stream": streamed(
            lambda: frame(40 * MEBI * b"x"), "?model=none"
        ),
        "many frames to a refused stream": streamed(lambda: 900_000 * frame(b"x"), "?model=none"),
        "tiny frames": streamed(lambda: 2_000_000 * frame(b"x")),
        "tiny parts of a frame": streamed(
            lambda: frame(b"x", final=False) + 2_000_000 * frame(b"x", 0, final=False)
        ),
        "pings": streamed(lambda: 2_000_000 * frame(b"", 9)),
        "compressed frames": streamed(lambda: bytes([0xC2]) + frame(MEBI * b"x")[1:]),
        "headers of a part": sent(
            lambda: posted(
                "/v1/emotion", FORM, part(b"x", 'form-data; name="' + 15 * MEBI * ";" + '"') + end
            )
        ),
        "many headers of a part": sent(
            lambda: posted("/v1/emotion", FORM, b"--x\r\n" + 3_000_000 * b"X: y\r\n")
        ),
        "parts": sent(
            lambda: posted(
                "/v1/emotion/batch", FORM, 400_000 * part(b"", "form-data; name=files") + end
            )
        ),
        "a document of many keys": sent(
            lambda: posted("/v1/emotion", "application/json", b"{" + 3_000_000 * b'"a":1,')
        ),
        "a document of brackets": sent(
            lambda: posted("/analyze", "application/json", 19 * MEBI * b"[")
        ),
        "parameters of an inference": sent(
            lambda: inference(parameters={f"p{n}": [] for n in range(190_000)})
        ),
        "tensors of an inference": sent(lambda: inference(inputs=190_000 * [{}])),
        "outputs of an inference": sent(lambda: inference(outputs=190_000 * [{}])),
        "escapes of a form": sent(
            lambda: posted(
                "/analyze", URLENCODED, b"img=data:image/png;base64," + 6 * MEBI * b"%41"
            )
        ),
        "an image field of text": sent(
            lambda: posted("/analyze", FORM, part(19 * MEBI * b"A", "form-data; name=img") + end)
        ),
        "a zip of costly pictures": benchmark,
    }
