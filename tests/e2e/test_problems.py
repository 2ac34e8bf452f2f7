"""Bad requests over a real connection: each gets its problem, and the next one is answered."""

import io
import json
import socket
import struct
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import httpx
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def _still_answers(client, grey_crop):
    yield
    assert len(client.post("/v1/emotion", content=grey_crop).json()["faces"]) == 1
    assert client.get("/readyz").status_code == 200


def huge_png() -> bytes:
    """A PNG whose header promises 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def tiny_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()


IMAGE, JSON = {"Content-Type": "image/jpeg"}, {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        (400, "malformed_request", {"content": b"", "headers": IMAGE}),
        (400, "malformed_request", {"content": b"{", "headers": JSON}),
        (400, "malformed_request", {"json": {"image": "no base64!"}}),
        (400, "malformed_request", {"files": {"photo": b"under another name"}}),
        (413, "payload_too_large", {"content": bytes(5 * 1024 * 1024), "headers": IMAGE}),
        (413, "payload_too_large", {"files": {"file": bytes(5 * 1024 * 1024)}}),
        (413, "too_many_pixels", {"content": huge_png(), "headers": IMAGE}),
        (415, "unsupported_media_type", {"files": {"file": ("me.jpg", b"text", "image/jpeg")}}),
        (415, "unsupported_media_type", {"content": b"text", "headers": {"Content-Type": "a/b"}}),
        (422, "image_too_small", {"content": tiny_png()}),
        (422, "unknown_model", {"content": tiny_png(), "params": {"model": "nobody"}}),
        (422, "invalid_parameter", {"content": tiny_png(), "params": {"detect": "maybe"}}),
        (422, "invalid_parameter", {"content": tiny_png(), "params": {"max_faces": 10_000}}),
        (404, "not_found", {"url": "/v1/nothing"}),
        (405, "method_not_allowed", {"url": "/v1/models"}),
    ],
)
def test_a_bad_request_gets_its_problem(client, status, code, request_):
    response = client.post(**({"url": "/v1/emotion"} | request_))
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text


def answer_to(port: int, request: bytes) -> tuple[int, dict]:
    """Sends bytes as they are and reads one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        response = connection.makefile("rb")
        status = int(response.readline().split()[1])
        headers = {}
        while line := response.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, json.loads(response.read(int(headers["content-length"])))


def test_a_declared_gigabyte_is_refused_before_a_byte_of_it_is_sent(server):
    for length in (str(2**30), str(2**30).zfill(5000)):
        head = f"POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        status, problem = answer_to(server.port, head.encode())
        assert (status, problem["code"]) == (413, "payload_too_large")


def test_a_tunnel_is_refused(server):
    offer = b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    status, problem = answer_to(
        server.port, b"CONNECT /livez HTTP/1.1\r\nHost: localhost\r\n" + offer
    )
    assert (status, problem["code"]) == (405, "method_not_allowed")


def test_an_endless_body_is_refused_at_the_limit(server):
    head = b"POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    status, problem = answer_to(server.port, head + 5 * chunk)
    assert (status, problem["code"]) == (413, "payload_too_large")


def test_clients_that_leave_in_the_middle_harm_nobody(server, photo):
    data = photo("astronaut")
    for sent in (len(data) // 2, len(data)):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = "POST /v1/emotion HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data[:sent])


def test_the_log_has_requests_by_id_and_nothing_of_their_content(server, client, photo):
    client.post(
        "/v1/emotion?model=secret-query",
        files={"file": ("secret-name.png", photo("astronaut"))},
        headers={"X-Request-ID": "look-for-me"},
    )
    (mine,) = map(json.loads, server.log_lines("look-for-me"))
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert mine["message"].startswith("POST /v1/emotion 422 ")
    assert "secret" not in server.log.read_text()
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")]


def test_the_log_names_a_variable_that_is_no_setting(server):
    (line,) = map(json.loads, server.log_lines("FERSERVE_"))
    assert line["level"] == "WARNING"
    assert line["message"] == "unknown settings, ignored: FERSERVE_APIKEYS"


# Clients that write their whole request before they read


def peak_memory(server) -> int:
    """The most memory that the process has held, in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak) // 1024


def refusal_of(url: str, body: bytes) -> int:
    """Posts with a client that sends ``Connection: close`` and all of its body first."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, IMAGE), timeout=60)
    assert json.load(refused.value)["status"] == refused.value.code
    return refused.value.code


@pytest.mark.parametrize("mebibytes", [1, 8, 60])
@pytest.mark.parametrize(
    ("status", "path"), [(404, "/v1/nothing"), (413, "/v1/emotion"), (422, "/v1/emotion?detect=x")]
)
def test_a_refusal_reaches_who_writes_all_first(server, status, path, mebibytes):
    if (status, mebibytes) == (413, 1):
        mebibytes = 5
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # sets the peak back
    before = peak_memory(server)
    for _ in range(3):
        assert refusal_of(server.base_url + path, bytes(mebibytes * 2**20)) == status
    assert peak_memory(server) - before < 24


def test_so_does_a_refusal_for_want_of_a_key_or_for_haste(start_server, tmp_path):
    settings = {"api_keys": "a-key-of-the-caller", "rate_limit": "2/year"}
    with start_server(tmp_path / "log", **settings) as server:
        for status, mebibytes in [(401, 1), (401, 60), (429, 1), (429, 60)]:
            body = bytes(mebibytes * 2**20)
            assert refusal_of(f"{server.base_url}/v1/emotion", body) == status


def test_a_refusal_reaches_a_client_of_http_1_0(server):
    body = bytes(16 * 2**20)
    head = f"POST /v1/emotion HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    status, problem = answer_to(server.port, head + body)
    assert (status, problem["code"]) == (413, "payload_too_large")
