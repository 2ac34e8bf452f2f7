"""A request's body → its image or its form, in memory only and never over the limit.

Functions that read a body are given its limit and what to charge its bytes to. They raise
``PayloadTooLarge`` (the rest is not kept), ``UnsupportedMediaType`` for another type or encoding,
``MalformedRequest`` where a body is not what its ``Content-Type`` says, and ``DeadlineExceeded``.
"""

import asyncio
import base64
import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from ferserve.budget import Take
from ferserve.errors import (
    DeadlineExceeded,
    MalformedRequest,
    PayloadTooLarge,
    TooManyImages,
    UnsupportedMediaType,
)
from ferserve.schemas import ImageDocument, describe_faults

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
"""Name of the multipart field that holds the image."""

FILES = "files"
"""Name of the multipart fields that hold the images of a batch."""

FORM, JSON = "multipart/form-data", "application/json"

MAX_PARTS = 1000
"""Most parts of a multipart body: each costs more memory than the body it came in."""

MAX_VALUES = 1000
"""Most values in a JSON body: they can take thirty times the memory of their text."""

MAX_TEXT_BYTES = 8 * 1024
"""Longest text of a form's field: answers repeat it where it is wrong."""

MAX_ENCODED_BYTES = 20 * 1024 * 1024
"""Largest part in base64, which takes five times its memory."""

QUICK_BYTES = 64 * 1024
"""Up to here, parsing a body costs less than handing it to a thread."""

JSON_COPIES = 3
"""An image in base64 is held as text, as text without blanks and decoded, beside the body."""

UPLOAD_SECONDS = 120
"""Longest time from a request's head to the end of its body."""

DATA_URI = re.compile(r"data:[^,]*;base64,\s*", re.IGNORECASE)
BLANK_INSIDE = re.compile(r"(?<=[^ \t\r\n])[ \t]+(?=[^ \t\r\n])")
STRAY = re.compile(r"[^A-Za-z0-9+/_= \t\r\n-]")
"""What base64 does not contain, in lines or not."""

_STANDARD = bytes.maketrans(b"-_", b"+/")

Fields = list[tuple[str, str]]
"""Names and texts of a form's other fields, in order."""


def media_type(request: Request) -> str:
    """Returns the type of a request's body in small letters, without parameters."""
    parsed, _ = parse_options_header(request.headers.get("content-type", ""))
    return parsed.decode("latin-1").lower()


async def read_image(request: Request, max_bytes: int, take: Take) -> tuple[bytes, Fields]:
    """Reads the image of a request in any of the three forms, and a form's other fields."""
    kind = media_type(request)
    fields: Fields = []
    if kind == FORM:
        parts = await read_form(request, max_bytes, take)
        image, fields = the_file(parts), _texts(parts, FIELD)
    elif kind == JSON:
        body = await read_json(request, max_bytes, take)
        if len(body) <= QUICK_BYTES:
            image = _from_json(body)
        else:  # parsing megabytes takes milliseconds, in which the event loop would stand still
            image = await run_in_threadpool(_from_json, body)
    elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
        image = await read_body(request, max_bytes, take)
    else:
        raise UnsupportedMediaType(
            "send multipart/form-data with a field 'file', the image's bytes as image/* or "
            "application/octet-stream, or application/json with base64"
        )
    if not image:
        raise MalformedRequest("the image is empty")
    return image, fields


async def read_images(
    request: Request, max_bytes: int, max_images: int, take: Take
) -> tuple[list[bytes], Fields]:
    """Reads the images of a batch, the fields ``files`` of a form, in order, and its other fields.

    Raises:
        TooManyImages: There are more than ``max_images``.
    """
    if media_type(request) != FORM:
        raise UnsupportedMediaType(f"send multipart/form-data with one or more fields {FILES!r}")
    parts = await read_form(request, max_bytes, take)
    images = [content for name, content in parts if name == FILES]
    if not images:
        raise MalformedRequest(f"the multipart body has no field {FILES!r}")
    if len(images) > max_images:
        raise TooManyImages(f"there are {len(images)} images; at most {max_images} are accepted")
    return images, _texts(parts, FILES)


async def read_form(
    request: Request, max_bytes: int, take: Take, seconds: float | None = None
) -> list[tuple[str, bytes]]:
    """Reads the parts of a ``multipart/form-data`` request: names and contents, in order.

    Larger parts go to no temporary file, as those of Starlette's parser would. Without ``seconds``
    it may take the usual time.
    """
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise MalformedRequest("the Content-Type has no multipart boundary")
    delimiters = 0

    def write(chunk: bytes) -> None:
        nonlocal delimiters
        delimiters += chunk.count(b"\r\n--" + boundary)  # those, too, that begin no part
        if delimiters > MAX_PARTS + 1:
            raise MalformedRequest(f"the multipart body has more than {MAX_PARTS} parts")
        parser.write(chunk)

    form = _Form()
    try:
        parser = form.parser(boundary)
        await _read(request, max_bytes, take, write, seconds)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest("the multipart body is broken") from error
    if parser.state is not MultipartState.END:
        raise MalformedRequest("the multipart body ends early")
    parts = form.parts[1:]

    def decoded() -> list[tuple[str, bytes]]:
        return [(part.name, part.decoded()) for part in parts]

    encoded = sum(part.content.tell() for part in parts if part.encoding == "base64")
    if encoded <= QUICK_BYTES:
        return decoded()
    take(encoded + (JSON_COPIES - 1) * min(encoded, MAX_ENCODED_BYTES))  # one after the other
    return await run_in_threadpool(decoded)


async def read_body(request: Request, max_bytes: int, take: Take) -> bytes:
    """Reads a body as it is, but for a byte order mark, with which some write JSON."""
    body = BytesIO()  # gives its bytes away without a copy
    await _read(request, max_bytes, take, body.write)
    return body.getvalue().removeprefix(codecs.BOM_UTF8)


async def read_json(request: Request, max_bytes: int, take: Take) -> bytes:
    """Reads a body to be parsed, of at most ``MAX_VALUES`` values, and charges its copies."""
    body = await read_body(request, max_bytes, take)
    take(JSON_COPIES * len(body))
    if sum(body.count(sign) for sign in b"[{,") > MAX_VALUES:
        raise MalformedRequest("the body has too many values")
    return body


async def _read(
    request: Request,
    max_bytes: int,
    take: Take,
    write: Callable[[bytes], object],
    seconds: float | None = None,
) -> None:
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("identity", ""):
        raise UnsupportedMediaType(
            f"Content-Encoding: {coding[:40]} is not supported: send the body uncompressed",
            {"Accept-Encoding": "identity"},
        )
    too_large = PayloadTooLarge(f"the request body may have at most {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and float(declared) > max_bytes:
        raise too_large
    total = 0
    try:
        async with asyncio.timeout(seconds or UPLOAD_SECONDS):
            async for chunk in request.stream():
                total += len(chunk)
                if total > max_bytes:
                    raise too_large
                take(len(chunk))
                write(chunk)
    except TimeoutError:
        raise DeadlineExceeded("the upload took too long") from None


def _texts(parts: list[tuple[str, bytes]], files: str) -> Fields:
    return [(name, read_text(name, content)) for name, content in parts if name != files]


def read_text(name: str, content: bytes) -> str:
    """Returns the text of a form's field; one longer than any option is a malformed request."""
    if len(content) > MAX_TEXT_BYTES:
        raise MalformedRequest(f"{name[:40]}: has more than {MAX_TEXT_BYTES} bytes")
    return content.decode(errors="replace")


def the_file(parts: list[tuple[str, bytes]]) -> bytes:
    """Returns the content of the one part ``file``; several, or none, are a malformed request."""
    files = [content for name, content in parts if name == FIELD]
    if len(files) != 1:
        raise MalformedRequest(f"the multipart body needs one field {FIELD!r}; it has {len(files)}")
    return files[0]


@dataclass(slots=True)
class _Part:
    name: str = ""
    encoding: str = ""
    content: BytesIO = field(default_factory=BytesIO)

    def decoded(self) -> bytes:
        if self.encoding in ("", "7bit", "8bit", "binary"):
            return self.content.getvalue()
        if self.encoding == "base64":
            if self.content.tell() > MAX_ENCODED_BYTES:
                raise PayloadTooLarge(f"a part in base64 has more than {MAX_ENCODED_BYTES} bytes")
            return decode_base64(self.name, self.content.getvalue().decode("latin-1"))
        raise UnsupportedMediaType(
            f"{self.name}: Content-Transfer-Encoding: {self.encoding[:40]} is not supported"
        )


class _Form:
    """Collects the parts of a multipart body; its parser bounds the headers of a part itself."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._header_name = self._header_value = b""

    def parser(self, boundary: bytes) -> MultipartParser:
        """Returns the parser, which holds the form: a cycle would keep its body in memory."""
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
        }
        parser = MultipartParser(boundary, callbacks)
        # RFC 2046 allows a preamble, and blanks after the boundary. The parser takes neither at the
        # first boundary, so it gets one more before, whose part is whatever precedes the form.
        parser.write(b"--" + boundary + b"\r\n\r\n\r\n")
        return parser

    def _on_part_begin(self) -> None:
        if len(self.parts) > MAX_PARTS:
            raise MalformedRequest(f"the multipart body has more than {MAX_PARTS} parts")
        self.parts.append(_Part())

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        header = self._header_name.lower()
        if header == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self.parts[-1].name = options.get(b"name", b"").decode(errors="replace")
        elif header == b"content-transfer-encoding":
            self.parts[-1].encoding = self._header_value.decode("latin-1").strip().lower()
        self._header_name = self._header_value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content.write(data[start:end])


def _from_json(body: bytes) -> bytes:
    try:
        document = ImageDocument.model_validate_json(body)
    except ValidationError as error:
        faults = describe_faults(error)
        raise MalformedRequest(f"the JSON body is not as described: {faults}") from None
    return decode_base64("image", document.image)


def decode_base64(name: str, text: str) -> bytes:
    """Returns what is in base64 or in a base64 data URI.

    Args:
        name: Of the field, for the error's words.
        text: In the standard or the URL-safe alphabet, padded or not. Line breaks do not matter,
            nor do blanks beside them or at either end.

    Raises:
        MalformedRequest: It is neither, with the place of what is wrong, counted from 1.
    """
    start = 0
    if text[:5].lower() == "data:":
        header = DATA_URI.match(text)
        if not header:
            raise MalformedRequest(f"{name}: the data URI is not in base64")
        start = header.end()
    blank = BLANK_INSIDE.search(text, start) if " " in text or "\t" in text else None
    try:
        if not text.isascii():  # each character has four bytes then: before there are copies
            raise ValueError
        # Blanks are deleted in place: splitting the text would make an object of every word.
        encoded = text[start:].encode("ascii").translate(_STANDARD, b" \t\r\n").rstrip(b"=")
        if not blank:
            return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        pass
    raise MalformedRequest(f"{name}: not base64: {_fault(text, start, blank)}")


def _fault(text: str, start: int, blank: re.Match[str] | None) -> str:
    if stray := STRAY.search(text, start):
        return f"{stray[0]!r} at {stray.start() + 1} is not a base64 character"
    if blank:
        return (
            f"there is a blank at {blank.start() + 1}, where a '+' may have been; a URL-encoded "
            "form must write it as %2B"
        )
    padding = text.find("=", start)
    if padding >= 0 and text[padding:].strip("= \t\r\n"):
        return f"more follows the padding '=' at {padding + 1}"
    return "it ends early, in the middle of a byte"
