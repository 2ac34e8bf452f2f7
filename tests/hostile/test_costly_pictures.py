"""No picture takes more than its share of the server: memory, processor time, others' answers."""

import pytest
from costly import documents, pictures

REFUSALS = {400, 413, 415, 422, 429}
AT_ONCE = 2

CASES = [(name, make, "application/octet-stream") for name, make in pictures().items()]
CASES += [(name, make, "application/json") for name, make in documents().items()]


@pytest.mark.parametrize(("name", "make", "content_type"), CASES, ids=[case[0] for case in CASES])
def test_two_of_them_cost_little_and_an_ordinary_photo_is_answered_meanwhile(
    measured, name, make, content_type
):
    body = make()
    statuses = measured.limited(*AT_ONCE * [lambda: measured.ask(body, content_type).status_code])
    assert set(statuses) <= REFUSALS | {200}
