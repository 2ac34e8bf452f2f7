"""No caller holds more than a share of the server: connections, heads, frames, documents."""

import pytest
from floods import floods

REFUSALS = {400, 403, 404, 413, 415, 422, 429}
FLOODS = floods()


@pytest.mark.parametrize("name", FLOODS)
def test_it_costs_little_and_an_ordinary_photo_is_answered_meanwhile(measured, name):
    (statuses,) = measured.limited(lambda: FLOODS[name](measured.port))
    assert set(statuses) <= REFUSALS | {200, 202}


def test_they_leave_nothing_behind(measured):
    assert {line["level"] for line in measured.log_lines()} <= {"INFO", "WARNING"}
