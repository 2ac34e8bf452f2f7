"""Over 300 hostile and odd requests to the real server: none gets a 5xx, none does harm."""

import json

import httpx
import pytest
from hostile import answer, cases

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_answered_or_refused(server, case):
    status, text = answer(server.port, case.raw, case.silence)
    assert status is None or status < 500, text[:1000]
    assert b"Traceback" not in text
    assert b"root:" not in text
    if status is not None and status >= 400 and b"Invalid HTTP request received" not in text:
        head, _, body = text.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        assert not body or json.loads(body)["status"] == status


def test_nobody_was_harmed(server, grey_crop):
    assert server.process.poll() is None
    assert len(httpx.post(f"{server.base_url}/v1/emotion", content=grey_crop).json()["faces"]) == 1
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"INFO", "WARNING"}
    assert not [line for line in lines if line["logger"].startswith(("PIL", "py.warnings"))]


def test_there_are_as_many_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= 150
