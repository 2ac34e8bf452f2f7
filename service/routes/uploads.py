"""A request's body → the bytes of its image, in memory only and never over the limit."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedRequest, PayloadTooLarge, UnsupportedMediaType
from service.schemas import ImageDocument

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
"""Name of the multipart field that holds the image."""

DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


async def read_image(request: Request, max_bytes: int) -> bytes:
    """Reads the image of a request in any of the three forms.

    Args:
        request: Its body has not been read.
        max_bytes: Largest body.

    Raises:
        UnsupportedMediaType: The body is of none of the three forms.
        PayloadTooLarge: The body is larger than ``max_bytes``; the rest was not kept.
        MalformedRequest: The body is empty or is not what its ``Content-Type`` says.
    """
    unpack = _unpacker(request.headers.get("content-type", ""))
    body = await _read_body(request, max_bytes)
    if not body:
        raise MalformedRequest("the request body is empty")
    # Parsing megabytes takes milliseconds, in which the event loop would stand still.
    image = await run_in_threadpool(unpack, body) if unpack else body
    if not image:
        raise MalformedRequest("the image is empty")
    return image


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = PayloadTooLarge(f"the request body may have at most {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > max_bytes:
            raise too_large
        body += chunk
    return bytes(body)


def _unpacker(content_type: str) -> Callable[[bytes], bytes] | None:
    """Chooses how to get the image out of a body; None where the body is the image."""
    parsed, parameters = parse_options_header(content_type)
    media_type = parsed.decode("latin-1").lower()
    if media_type == "multipart/form-data":
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise MalformedRequest("the Content-Type has no multipart boundary")
        return lambda body: _from_multipart(body, boundary)
    if media_type == "application/json":
        return _from_json
    if media_type.startswith("image/") or media_type in ("", "application/octet-stream"):
        return None
    raise UnsupportedMediaType(
        "send multipart/form-data with a field 'file', the image's bytes as image/* or "
        "application/octet-stream, or application/json with base64"
    )


def _from_multipart(body: bytes, boundary: bytes) -> bytes:
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest("the multipart body is broken") from error
    if not form.complete:
        raise MalformedRequest("the multipart body ends early")
    images = [content for name, content in form.parts if name == FIELD]
    if len(images) != 1:
        raise MalformedRequest(
            f"the multipart body needs one field {FIELD!r}; it has {len(images)}"
        )
    return bytes(images[0])


class _Form:
    """Collects the parts of a multipart body; larger ones go to no temporary file."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, bytearray]] = []
        self.complete = False
        self._header_name = b""
        self._header_value = b""

    def callbacks(self) -> "MultipartCallbacks":
        """Returns this object's methods by the names the parser calls them."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self.parts.append(("", bytearray()))

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            name = options.get(b"name", b"").decode("latin-1")
            self.parts[-1] = (name, self.parts[-1][1])
        self._header_name = self._header_value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].extend(data[start:end])

    def _on_end(self) -> None:
        self.complete = True


def _from_json(body: bytes) -> bytes:
    try:
        document = ImageDocument.model_validate_json(body)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise MalformedRequest(f"the JSON body is not as described: {faults}") from None
    encoded = document.image
    if encoded.startswith("data:"):
        header = DATA_URI.match(encoded)
        if not header:
            raise MalformedRequest("image: the data URI is not in base64")
        encoded = encoded[header.end() :]
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest("image: not base64") from error
