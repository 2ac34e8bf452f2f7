"""Over 300 hostile and odd requests to the real server: none gets a 5xx, none does harm."""

import json
from itertools import groupby

import pytest
from hostile import answer, cases

CASES = cases()
GROUPS = {
    group: list(found) for group, found in groupby(CASES, lambda case: case.name.partition(":")[0])
}


@pytest.mark.parametrize("group", GROUPS)
def test_they_are_answered_or_refused_and_cost_little(measured, group):
    def ask_all() -> list[tuple[int | None, bytes]]:
        return [answer(measured.port, case.raw, case.silence) for case in GROUPS[group]]

    (answers,) = measured.limited(ask_all)
    for case, (status, text) in zip(GROUPS[group], answers, strict=True):
        assert status is None or status < 500, (case.name, text[:1000])
        assert b"Traceback" not in text, case.name
        assert b"root:" not in text, case.name
        if status is not None and status >= 400 and b"Invalid HTTP request received" not in text:
            head, _, body = text.partition(b"\r\n\r\n")
            assert b"application/problem+json" in head, case.name
            assert not body or json.loads(body)["status"] == status, case.name


def test_nobody_was_harmed(measured, grey_crop):
    assert measured.process.poll() is None
    assert len(measured.ask(grey_crop).json()["faces"]) == 1
    lines = measured.log_lines()
    assert {line["level"] for line in lines} <= {"INFO", "WARNING"}
    assert not [line for line in lines if line["logger"].startswith(("PIL", "py.warnings"))]


def test_there_are_as_many_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= 300
