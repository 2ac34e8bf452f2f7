"""Callers that hold or flood connections: what they send costs them little."""

import base64
import io
import json
import os
import re
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from costly import encoded, progressive, small
from hostile import FORM, MEBI, http, part

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CLOSE = 8
"""The opcode of a close (RFC 6455, section 11.8)."""

LONG_FORM = "multipart/form-data; boundary=" + 70 * "x"
ALMOST = b"\r\n--" + 69 * b"x" + b"y"

URLENCODED = "application/x-www-form-urlencoded"
Flood = Callable[[int], list[int]]
"""Takes the server's port; returns the statuses of its answers, and close codes of streams."""


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
        "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
    )
    with connected(port) as connection:
        connection.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(1)  # a refused stream's frames come at once behind it
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
        connection.settimeout(15)
        connection.sendall(data)
    connection.settimeout(30)  # an answer takes its time on a busy machine


def statuses(connection: socket.socket) -> list[int]:
    """Reads until the server closes, or has answered and says no more."""
    received = b""
    with suppress(OSError):
        while more := connection.recv(65536):
            received += more
            connection.settimeout(3)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


def messages(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yields opcode and body of what comes, which has no masks, until the server closes."""
    received = connection.makefile("rb")
    with suppress(OSError):
        while head := received.read(2):
            size = head[1]
            if size > 125:
                size = int.from_bytes(received.read(2 if size == 126 else 8), "big")
            yield head[0] & 15, received.read(size)


def close_code(connection: socket.socket) -> int:
    """Reads until the server closes, which it has to."""
    (reason,) = (body for opcode, body in messages(connection) if opcode == CLOSE)
    return int.from_bytes(reason[:2], "big")


def ask_frame(connection: socket.socket) -> int:
    """Sends an ordinary frame; returns the status that its answer would have over HTTP."""
    connection.sendall(frame(encoded(small(), "JPEG")))
    _, answer = next(messages(connection))
    return json.loads(answer).get("problem", {}).get("status", 200)


def sent(make: Callable[[], bytes]) -> Flood:
    """Sends what is made when it is wanted: together the floods would fill the memory."""

    def flood(port: int) -> list[int]:
        with connected(port) as connection:
            send(connection, make())
            return statuses(connection)

    return flood


def unfinished_heads(port: int) -> list[int]:
    """More connections than are kept, each with a head that does not end; then one more."""
    with ExitStack() as held:
        for _ in range(700):
            connection = held.enter_context(connected(port))
            send(connection, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + 30_000 * b"y")
        return [httpx.get(f"http://127.0.0.1:{port}/livez", timeout=60).status_code]


def unfinished_frames(port: int) -> list[int]:
    """As many streams as one caller may have, each but one with most of a large frame."""
    with ExitStack() as held:
        ordinary = held.enter_context(stream(port))
        for _ in range(15):
            connection = held.enter_context(stream(port))
            send(connection, frame(bytes(7 * MEBI), length=8 * MEBI))
        one_more = held.enter_context(stream(port))
        return [close_code(one_more), ask_frame(ordinary)]


def streamed(make: Callable[[], bytes], query: str = "") -> Flood:
    """Sends what is made to a stream beside an ordinary one."""

    def flood(port: int) -> list[int]:
        with stream(port) as ordinary, stream(port, query) as connection:
            send(connection, make())
            return [close_code(connection), ask_frame(ordinary)]

    return flood


def posted(path: str, content_type: str, body: bytes) -> bytes:
    return http(body, content_type, path=path)


def inference(**more: object) -> bytes:
    tensor = {"name": "faces", "datatype": "UINT8", "shape": [1, 48, 48], "data": []}
    document = {"inputs": [tensor], "outputs": []} | more
    return posted("/v2/models/custom_cnn/infer", "application/json", json.dumps(document).encode())


def many_faces(port: int) -> list[int]:
    """As many as the queue has places; then as many as are taken of a large network."""
    url = f"http://127.0.0.1:{port}/v2/models/custom_cnn/infer"

    def ask(count: int) -> httpx.Response:
        tensor = {"name": "faces", "datatype": "UINT8", "shape": [count, 48, 48]}
        document = {"inputs": [tensor | {"data": count * 48 * 48 * [99]}]}
        return httpx.post(url, json=document, timeout=60)

    refused = ask(256)
    most = re.findall(r"at most (\d+) faces", refused.text)[0]
    return [refused.status_code, ask(int(most)).status_code]


def archive() -> bytes:
    """A zip whose pictures would take a decoder for hours."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for emotion in EMOTIONS:
            zipped.writestr(f"{emotion}/a.jpg", progressive(3000, 170))
        zipped.writestr(f"{EMOTIONS[0]}/ballast.jpg", os.urandom(19 * MEBI))
    return file.getvalue()


def directory(entries: bytes) -> bytes:
    """A zip of a directory only."""
    size = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, len(entries), 30, 0)
    return posted(
        "/v1/benchmark", FORM, part(b"PK\3\4" + bytes(26) + entries + size) + b"--x--\r\n"
    )


def entry(name: bytes) -> bytes:
    """Of a zip's directory."""
    rest = (20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
    return struct.pack("<4s6H3I5H2I", b"PK\1\2", *rest) + name


def analysis(**fields: object) -> bytes:
    """DeepFace's request."""
    image = base64.b64encode(encoded(small(), "PNG")).decode()
    document = {"img": f"data:image/png;base64,{image}"} | fields
    return posted("/analyze", "application/json", json.dumps(document).encode())


def benchmark(port: int) -> list[int]:
    """Has it run, and cancels it."""
    url = f"http://127.0.0.1:{port}/v1/benchmark"
    accepted = httpx.post(url, files={"file": archive()}, timeout=60)
    job = accepted.json().get("id", "none")
    with httpx.stream("GET", f"{url}/{job}/events", timeout=60) as events:
        for line in events.iter_lines():
            if "finished" in line:
                break
    return [accepted.status_code, httpx.delete(f"{url}/{job}", timeout=60).status_code]


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
        "an option of a form": sent(
            lambda: posted(
                "/v1/emotion", FORM, part(19 * MEBI * b"\1", "form-data; name=model") + end
            )
        ),
        "an option that is no text": sent(
            lambda: posted(
                "/v1/emotion/batch", FORM, part(60 * MEBI * b"\xff", "form-data; name=model") + end
            )
        ),
        "a part in base64": sent(
            lambda: posted(
                "/v1/emotion/batch",
                FORM,
                part(63 * MEBI * b"A", "form-data; name=files", "Content-Transfer-Encoding: base64")
                + end,
            )
        ),
        "almost the boundary of a form": sent(
            lambda: posted("/v1/emotion", LONG_FORM, ALMOST + 250_000 * ALMOST)
        ),
        "words of a DeepFace list": sent(
            lambda: analysis(actions=" ".join(f"a{n}" for n in range(2_000_000)))
        ),
        "texts in the shape of a tensor": sent(
            lambda: inference(inputs=[{"name": "faces", "shape": 590_000 * [""]}])
        ),
        "numbers for tensors": sent(lambda: inference(inputs=590_000 * [1])),
        "long numbers in a tensor": sent(
            lambda: inference(
                inputs=[
                    {
                        "name": "faces",
                        "datatype": "UINT8",
                        "shape": [256, 48, 48],
                        "data": 580_000 * [10**29],
                    }
                ]
            )
        ),
        "faces for a large network": many_faces,
        "1,000,000 entries of a zip": sent(lambda: directory(1_000_000 * entry(b"happy/a.png"))),
        "long names in a zip": sent(
            lambda: directory(
                b"".join(entry(b"happy/%d" % n + 65_000 * b"\xb0") for n in range(900))
            )
        ),
        "folders in a zip": sent(
            lambda: directory(
                b"".join(entry(7_000 * b"a/" + b"happy/%d.png" % n) for n in range(1000))
            )
        ),
        "a zip of costly pictures": benchmark,
    }
