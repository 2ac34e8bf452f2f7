"""No caller holds more than a share of the server: connections, heads, frames, documents."""

import pytest
from floods import floods

ANSWERS = {200, 202}
REFUSALS = {400, 403, 404, 413, 415, 422, 429}
CLOSES = {1002, 1008, 1009, 1013, 4422, 4429}
"""Protocol broken, too many messages, too large, no memory (RFC 6455); 4000 and a status."""

FLOODS = floods()


@pytest.mark.parametrize("name", FLOODS)
def test_it_costs_little_and_ordinary_photos_are_answered_meanwhile(measured, name):
    (codes,) = measured.limited(lambda: FLOODS[name](measured.port))
    assert codes
    assert set(codes) <= ANSWERS | REFUSALS | CLOSES


def test_they_leave_nothing_behind(measured):
    assert {line["level"] for line in measured.log_lines()} <= {"INFO", "WARNING"}
