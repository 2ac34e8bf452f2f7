# ruff: noqa: E501 - tables of requests, one a line
"""Hostile and odd requests as the bytes that are sent, and a client that sends just those."""

import base64
import contextlib
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MEBI = 1024 * 1024
FORM = "multipart/form-data; boundary=x"


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        silence: Seconds to wait for an answer before the client says that it has no more to send.
    """

    name: str
    raw: bytes
    silence: float


def http(
    body: bytes = b"",
    content_type: str | None = None,
    *,
    path: str = "/v1/emotion",
    method: str = "POST",
    headers: tuple[str, ...] = (),
) -> bytes:
    """A complete HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines += [f"Content-Type: {content_type}"] if content_type is not None else []
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answer(port: int, raw: bytes, silence: float = 30) -> tuple[int | None, bytes]:
    """Sends the bytes; returns the status and the answer, or None where there was none.

    A request that is not complete gets no answer: after ``silence`` seconds the client says that
    it has no more to send.
    """
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=silence) as connection:
        # Where it is refused before all was sent, the answer is there nevertheless.
        with contextlib.suppress(OSError):
            connection.sendall(raw)
        with contextlib.suppress(ConnectionResetError):
            while chunk := _receive(connection):
                received += chunk
    if received.startswith(b"HTTP/1.1 100 "):
        received = received.partition(b"\r\n\r\n")[2]
    if not received.startswith(b"HTTP/1.1 "):
        return None, bytes(received)
    return int(received[9:12]), bytes(received)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except TimeoutError:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(30)
        return connection.recv(65536)


def cases() -> list[Case]:
    """All of them, the same every time, each with a name of its own."""
    groups = (images, chunks_of_png, headers_of_others, not_images, documents, forms, batches,
              queries, places, request_headers, framing)  # fmt: skip
    return [
        Case(f"{group.__name__}: {name}", raw, silence=0.3 if group is framing else 30)
        for group in groups
        for name, raw in group()
    ]


Named = Iterator[tuple[str, bytes]]


def encoded(file_format: str, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    pixels = random.Random(file_format).randbytes(size[0] * size[1] * (3 if mode == "RGB" else 1))
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels).save(file, file_format)
    return file.getvalue()


def images() -> Named:
    """Files of every accepted format, cut, changed and stretched."""
    for name in FORMATS:
        whole = encoded(name)
        for share in (0.02, 0.3, 0.7, 0.99):
            yield f"{name} cut at {share}", http(whole[: max(12, int(share * len(whole)))])
        for seed in range(3):
            noise = random.Random(seed)
            changed = bytearray(whole)
            for _ in range(12):
                changed[noise.randrange(12, len(changed))] = noise.randrange(256)
            yield f"{name} with changed bytes, {seed}", http(bytes(changed))
        for filler in (b"\0", b"\xff"):
            yield f"{name} head, then {filler!r}", http(whole[:30] + 4000 * filler)
        yield f"{name} twice", http(whole + whole)
        yield f"{name} with a megabyte behind", http(whole + bytes(MEBI))
    for size in ((1, 1), (7, 8), (8, 7), (8, 8), (20_000, 8), (8, 20_000)):
        yield f"a PNG of {size}", http(encoded("PNG", size, "L"))


def chunk(kind: bytes, data: bytes, length: int | None = None, check: int | None = None) -> bytes:
    check = zlib.crc32(kind + data) if check is None else check
    return (
        struct.pack(">I", len(data) if length is None else length)
        + kind
        + data
        + struct.pack(">I", check)
    )


def png(*middle: bytes, size: tuple[int, int] = (32, 32), kind: tuple[int, ...] = (8, 0, 0, 0, 0)):
    header = chunk(b"IHDR", struct.pack(">II5B", *size, *kind))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(middle) + chunk(b"IEND", b"")


def chunks_of_png() -> Named:
    """PNG files put together by hand."""
    rows = chunk(b"IDAT", zlib.compress(32 * (b"\0" + 32 * b"\x80")))
    bomb = zlib.compress(bytes(64 * MEBI), 9)
    yield "size 0", http(png(rows, size=(0, 0)))
    yield "30,000 pixels square", http(png(rows, size=(30_000, 30_000)))
    yield "2 ** 31 - 1 pixels square", http(png(rows, size=(2**31 - 1, 2**31 - 1)))
    yield "2 ** 32 - 1 pixels square", http(png(rows, size=(2**32 - 1, 2**32 - 1)))
    yield "one column of 2 ** 31 - 1", http(png(rows, size=(1, 2**31 - 1)))
    yield "many pixels, no data", http(png(size=(7000, 7000)))
    yield "depth 3", http(png(rows, kind=(3, 0, 0, 0, 0)))
    yield "colour type 5", http(png(rows, kind=(8, 5, 0, 0, 0)))
    yield "compression 9", http(png(rows, kind=(8, 0, 9, 0, 0)))
    yield "interlace 7", http(png(rows, kind=(8, 0, 0, 0, 7)))
    yield "palette without colours", http(png(rows, kind=(8, 3, 0, 0, 0)))
    yield "a wrong checksum", http(png(chunk(b"IDAT", b"x", check=1)))
    yield "a chunk of 4 GB", http(png(chunk(b"IDAT", b"x", length=2**32 - 1)))
    yield "a chunk without a name", http(png(chunk(b"\0\0\0\0", b"x"), rows))
    yield "data that is no zlib", http(png(chunk(b"IDAT", b"no zlib")))
    yield "data that unpacks to more", http(png(chunk(b"IDAT", bomb)))
    yield "a profile that unpacks to more", http(png(chunk(b"iCCP", b"p\0\0" + bomb), rows))
    yield "text that unpacks to more", http(png(chunk(b"zTXt", b"t\0\0" + bomb), rows))
    yield (
        "language text that unpacks to more",
        http(png(chunk(b"iTXt", b"t\0\1\0\0\0" + bomb), rows)),
    )
    yield "5,000 texts", http(png(*[chunk(b"tEXt", b"a\0b")] * 5000, rows))
    yield "EXIF that is none", http(png(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"), rows))
    yield (
        "EXIF that points to itself",
        http(
            png(chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0i\x87\4\0\1\0\0\0\x08\0\0\0\0\0\0\0"), rows)
        ),
    )
    yield (
        "an animation of 4 billion frames",
        http(png(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)), rows)),
    )


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A little-endian TIFF of one directory at 8: (tag, type, count, value)."""
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + directory + struct.pack("<I", following) + bytes(4096)


def headers_of_others() -> Named:
    """Files of the other formats whose headers lie."""
    bmp = bytearray(encoded("BMP"))
    for name, offset, value in (
        ("2 ** 31 - 1 wide", 18, 2**31 - 1),
        ("of negative width", 18, 2**32 - 40),
        ("upside down and huge", 22, 2**31 + 1),
        ("with 4 billion bits a pixel", 28, 2**32 - 1),
        ("with run lengths", 30, 1),
        ("with pixels beyond its end", 10, 2**31),
        ("with 4 billion colours", 46, 2**32 - 1),
    ):
        changed = bmp.copy()
        changed[offset : offset + 4] = struct.pack("<I", value)
        yield f"a BMP {name}", http(bytes(changed))
    gif = encoded("GIF", mode="L")
    yield "a GIF of 65,535 square", http(gif[:6] + b"\xff\xff\xff\xff" + gif[10:])
    yield "a GIF of size 0", http(gif[:6] + bytes(4) + gif[10:])
    yield "a GIF of comments", http(gif[:13] + 3 * gif[13:16] * 256 + 9999 * b"!\xfe\1x\0" + b";")
    yield "a GIF with codes of 255 bits", http(gif.replace(b"\x08", b"\xff"))
    jpeg = encoded("JPEG")
    start = jpeg.index(b"\xff\xc0")
    for name, size in (("65,535 square", b"\xff\xff\xff\xff"), ("size 0", bytes(4))):
        yield f"a JPEG of {name}", http(jpeg[: start + 5] + size + jpeg[start + 9 :])
    yield "a JPEG of 9,000 markers", http(jpeg[:2] + 9000 * b"\xff\xe1\0\4hi" + jpeg[2:])
    yield "a JPEG without an end of markers", http(b"\xff\xd8" + 99_999 * b"\xff")
    yield (
        "a JPEG with broken EXIF",
        http(jpeg[:2] + b"\xff\xe1\0\x16Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(6) + jpeg[2:]),
    )
    yield (
        "a JPEG with a profile that is none",
        http(jpeg[:2] + b"\xff\xe2\0\x20ICC_PROFILE\0\1\1" + bytes(16) + jpeg[2:]),
    )
    size = ((256, 4, 1, 64), (257, 4, 1, 64))
    yield "a TIFF whose directory follows itself", http(tiff(*size, following=8))
    yield "a TIFF of nothing", http(tiff())
    yield "a TIFF of 4 billion square", http(tiff((256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)))
    yield "a TIFF with 4 billion strips", http(tiff(*size, (273, 4, 2**32 - 1, 64)))
    yield "a TIFF with 65,535 samples", http(tiff(*size, (277, 3, 1, 65535), (258, 3, 1, 8)))
    yield "a TIFF of one huge tile", http(
        tiff(*size, (258, 3, 1, 8), (262, 3, 1, 1), (322, 4, 1, 60_000), (323, 4, 1, 60_000),
             (324, 4, 1, 64), (325, 4, 1, 64))
    )  # fmt: skip
    yield "a TIFF of an unknown compression", http(tiff(*size, (259, 3, 1, 51_966)))
    webp = encoded("WEBP")
    yield "a WebP of 4 GB", http(webp[:4] + b"\xff\xff\xff\xff" + webp[8:])
    yield (
        "a WebP of 16 million square",
        http(b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(8)),
    )


def not_images() -> Named:
    """What is none of the accepted formats, whatever it is called."""
    files = {
        "nothing": b"",
        "a byte": b"x",
        "zeros": bytes(MEBI),
        "text": b"just some words\n" * 100,
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "XML that grows": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa">]><l>&a;</l>',
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
        "ZIP": b"PK\3\4" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(40),
        "ELF": b"\x7fELF" + bytes(60),
        "an icon": b"\0\0\1\0\1\0" + bytes(60),
        "PSD": b"8BPS\0\1" + bytes(60),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "MP4": b"\0\0\0\x18ftypmp42" + bytes(60),
        "NumPy": b"\x93NUMPY\1\0" + bytes(60),
        "a pickle": b"\x80\4cos\nsystem\n(S'true'\ntR.",
        "BM and text": b"BM is how this text begins, and no picture follows",
        "RIFF that is a sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    }
    for name, data in files.items():
        yield name, http(data, "image/jpeg")
    yield (
        "text in a compressed body",
        http(zlib.compress(b"x"), headers=("Content-Encoding: gzip",)),
    )


def documents() -> Named:
    """JSON bodies."""
    small = base64.b64encode(encoded("PNG")).decode()
    texts = {
        "nothing": "", "half": '{"image": "', "a list": "[]", "null": "null", "a number": "1e400",
        "NaN": '{"image": NaN}', "another field": '{"picture": "x"}', "empty": '{"image": ""}',
        "a list for a text": f'{{"image": ["{small}"]}}', "null for a text": '{"image": null}',
        "twice": f'{{"image": "{small}", "image": "{small}"}}',
        "nested": '{"image":' + 50_000 * "[", "nested objects": 20_000 * '{"image":',
        "a long number": '{"image": ' + 9999 * "9" + "}", "an address": '{"image": "http://x/a.png"}',
        "a file": '{"image": "file:///etc/passwd"}', "a path": '{"image": "/etc/passwd"}',
        "an SVG": '{"image": "data:image/svg+xml;base64,PHN2Zz4="}',
        "no base64": '{"image": "data:image/png,%89PNG"}', "padding": '{"image": "===="}',
        "half a surrogate": '{"image": "\\ud800"}', "zeros": '{"image": "\\u0000"}',
        "spaces": '{"image": "' + 9999 * " " + '"}', "URL-safe": '{"image": "-_-_"}',
        "megabytes": '{"image": "' + 3 * MEBI * "A" + '"}', "constructor": '{"__proto__": {}}',
    }  # fmt: skip
    for name, text in texts.items():
        yield name, http(text.encode(), "application/json")
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "latin-1"):
        text = f'{{"image": "{small}", "ä": 1}}'
        yield f"in {encoding}", http(text.encode(encoding), "application/json")


def part(content: bytes, disposition: str = 'form-data; name="file"', *headers: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *headers]
    return b"--x\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def forms() -> Named:
    """Multipart bodies."""
    image, end = encoded("PNG"), b"--x--\r\n"
    bodies = {
        "nothing": b"", "an end only": end, "no end": part(image), "text before": b"hello" + end,
        "a million dashes": MEBI * b"-", "line ends only": 50_000 * b"\r\n", "no name": part(image, "form-data") + end,
        "two files": 2 * part(image) + end, "999 fields": 999 * part(b"", "form-data; name=a") + end,
        "5,000 fields": 5000 * part(b"", "form-data; name=a") + end,
        "a path for a name": part(image, 'form-data; name="file"; filename="../../etc/passwd"') + end,
        "zeros in a name": part(image, 'form-data; name="file"; filename="a\0b"') + end,
        "a long name": part(image, 'form-data; name="' + 9999 * "n" + '"') + end,
        "a long header": part(image, 'form-data; name="file"', "X: " + 100_000 * "y") + end,
        "1,000 headers": part(image, 'form-data; name="file"', *1000 * ["X: y"]) + end,
        "a header without a colon": part(image, 'form-data; name="file"', "nocolon") + end,
        "an attachment": part(image, 'attachment; name="file"') + end,
        "base64 by header": part(b"aGk=", 'form-data; name="file"', "Content-Transfer-Encoding: base64") + end,
        "a form in a form": part(part(image) + end, 'form-data; name="file"', f"Content-Type: {FORM}") + end,
        "text after": part(image) + end + 1000 * b"more", "bare line feeds": (part(image) + end).replace(b"\r\n", b"\n"),
        "a name in another alphabet": part(image, "form-data; name*=UTF-8''file") + end,
    }  # fmt: skip
    for name, body in bodies.items():
        yield name, http(body, FORM)
    for name, boundary in {
        "empty": "", "missing": None, "long": 5000 * "b", "quoted": '"x"', "odd": '"x y;z"', "zero": "%00",
    }.items():  # fmt: skip
        content_type = "multipart/form-data" + (
            f"; boundary={boundary}" if boundary is not None else ""
        )
        yield f"boundary {name}", http(part(image) + end, content_type)


def batches() -> Named:
    """Bodies of ``/v1/emotion/batch``."""
    image, end, files = encoded("PNG"), b"--x--\r\n", 'form-data; name="files"'
    bodies = {
        "nothing": end, "33 images": 33 * part(image, files) + end, "another name": part(image) + end,
        "999 images": 999 * part(b"", files) + end, "empty images": 32 * part(b"", files) + end,
        "32 bombs": 32 * part(png(size=(30_000, 30_000)), files) + end, "no end": part(image, files),
        "all that is no image": b"".join(part(raw.split(b"\r\n\r\n", 1)[1], files) for _, raw in list(not_images())[3:20]) + end,
    }  # fmt: skip
    for name, body in bodies.items():
        yield name, http(body, FORM, path="/v1/emotion/batch")
    yield "an image alone", http(image, "image/png", path="/v1/emotion/batch")
    yield "JSON", http(json.dumps({"files": []}).encode(), "application/json", path="/v1/emotion/batch")  # fmt: skip


def queries() -> Named:
    """Query strings with a good image."""
    image = encoded("PNG")
    for query in (
        "model=", "model=nobody", "model=../../etc/passwd", "model=%00", "model=%F0%9F%98%80",
        "model=%FF%FE", "model=" + 5000 * "m", "detect=maybe", "detect=", "max_faces=0",
        "max_faces=-1", "max_faces=1e9", "max_faces=" + 5000 * "9", "max_faces=%D9%A3",
        "min_face_confidence=nan", "min_face_confidence=inf", "min_face_confidence=1e-999",
        "min_face_confidence=-0", "landmarks=perhaps", "landmarks=1&landmarks=0", "unknown=1",
        "model=custom_cnn&model=nobody", "&&&", "=", "%", "%zz", "a" * 8000, "?" * 100,
        "&".join(f"a{n}=1" for n in range(500)), "model[$ne]=1", "detect=true'--",
    ):  # fmt: skip
        yield query[:40], http(image, "image/png", path=f"/v1/emotion?{query}")


def places() -> Named:
    """Odd methods and paths."""
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"):
        yield f"{method} on an image route", http(method=method)
    for path in (
        "//v1/emotion", "/v1/emotion/", "/v1//emotion", "/v1/emotion/batch/", "/v1/../v1/emotion",
        "/..%2f..%2fetc%2fpasswd", "/static-offline-docs/../../../etc/passwd",
        "/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static-offline-docs/%00",
        "/static-offline-docs/" + 5000 * "a", "/%0d%0aSet-Cookie:%20a=b", "/%ff%fe", "/\xe4\xf6",
        "/v1/models/%2e%2e", "/v1/models/" + 5000 * "m", "/v1/models/a%2Fb", "/v1/models/%00",
        "/v1/benchmark/none", "/v1/benchmark/..%2f..", "/v1/benchmark/none/events",
        "/v1/benchmark/none/report?thumbnails=perhaps", "/" + 8000 * "p", "/docs/../livez",
        "http://elsewhere/v1/models", "*",
    ):  # fmt: skip
        yield f"GET {path[:50]}", http(method="GET", path=path)
    for body in (b"", b"{", b"[]", b'{"limit": -1}', b'{"model": "nobody"}', b'{"limit": 1e999}'):
        yield f"a benchmark of {body!r}", http(body, "application/json", path="/v1/benchmark")


def request_headers() -> Named:
    """Odd headers with a good image."""
    image = encoded("PNG")
    for header in (
        "X-Request-ID: " + 4000 * "i", "X-Request-ID: a\tb", "X-Request-ID: \xff", "X-Request-ID:",
        "X-Request-Timeout-Ms: 0", "X-Request-Timeout-Ms: -1", "X-Request-Timeout-Ms: NaN",
        "X-Request-Timeout-Ms: 1e3", "X-Request-Timeout-Ms: " + 5000 * "9", "X-API-Key: \xff\xfe",
        "Authorization: Bearer", "Authorization: " + 9999 * "b", "Cookie: " + 9999 * "c=d;",
        "Expect: 100-continue", "Upgrade: websocket", "Connection: upgrade", "Range: bytes=0-1",
        "Accept: application/xml", "Accept-Encoding: *;q=0", "Content-Encoding: br", "Origin: null",
        "X-Forwarded-For: '; drop table", "X-Forwarded-For: " + 999 * "1.1.1.1,", "Host: \xff",
        "X-HTTP-Method-Override: DELETE", "Transfer-Encoding: identity", "Forwarded: for=_gazonk",
    ):  # fmt: skip
        yield header[:40], http(image, "image/png", headers=(header,))
    for content_type in ("", ";", "/", "image/", "image/png; charset=\xff", "text/plain", "*/*",
                         "application/xml", "IMAGE/PNG", 5000 * "t", "application/json; charset=utf-7"):  # fmt: skip
        yield f"Content-Type: {content_type[:40]}", http(image, content_type)
    many = tuple(f"X-{number}: y" for number in range(90))
    yield "90 headers", http(image, "image/png", headers=many)


def framing() -> Named:
    """Bodies and requests that do not keep to HTTP."""
    head = b"POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    image = encoded("PNG")
    yield "chunks of one byte", chunked + b"".join(b"1\r\n%c\r\n" % b for b in image) + b"0\r\n\r\n"
    yield "no chunk at all", chunked + b"0\r\n\r\n"
    yield "a chunk of no number", chunked + b"zz\r\nx\r\n0\r\n\r\n"
    yield "a chunk of negative length", chunked + b"-1\r\nx\r\n0\r\n\r\n"
    yield "a chunk of 2 ** 70", chunked + b"4000000000000000000\r\nx\r\n0\r\n\r\n"
    yield "chunks without an end", chunked + b"5\r\nhello\r\n"
    yield "a chunk with extensions", chunked + b"1;a=" + 3000 * b"b" + b"\r\nx\r\n0\r\n\r\n"
    yield "trailers", chunked + b"1\r\nx\r\n0\r\nX-Late: 1\r\n\r\n"
    yield "chunks over the limit", chunked + 6 * (b"100000\r\n" + bytes(MEBI) + b"\r\n")
    yield "length and chunks", head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"  # fmt: skip
    yield "two lengths", head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
    yield "a negative length", head + b"Content-Length: -1\r\n\r\nx"
    yield "a length of no number", head + b"Content-Length: ten\r\n\r\nx"
    yield "a gigabyte announced", head + b"Content-Length: 1073741824\r\n\r\n"
    yield "2 ** 70 bytes announced", head + b"Content-Length: 1180591620717411303424\r\n\r\n"
    yield "less than announced", head + b"Content-Length: 5000\r\n\r\n" + image[:100]
    yield "more than announced", head + b"Content-Length: 10\r\n\r\n" + image
    yield "no length", head + b"\r\n" + image
    yield "HTTP/1.0", b"GET /livez HTTP/1.0\r\n\r\n"
    yield "HTTP/0.9", b"GET /livez\r\n\r\n"
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "HTTP/9.9", b"GET /livez HTTP/9.9\r\n\r\n"
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    yield "no host", b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
    yield "zeros", bytes(5000)
    yield "nothing", b""
    yield "a header of a megabyte", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + MEBI * b"y"
    yield "a folded header", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nA: b\r\n c\r\n\r\n"  # fmt: skip
    yield "a space before a colon", b"GET /livez HTTP/1.1\r\nHost : x\r\nConnection: close\r\n\r\n"
    yield (
        "a hundred requests at once",
        99 * b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + http(image),
    )
