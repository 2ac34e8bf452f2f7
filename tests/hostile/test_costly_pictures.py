"""No picture takes more than its share of the server: memory, processor time, others' answers."""

import httpx
import pytest
from costly import batches, documents, pictures

REFUSALS = {400, 413, 415, 422, 429}
AT_ONCE = 2
IN_A_BATCH = 32

BATCHES = batches()

CASES = [(name, make, "application/octet-stream") for name, make in pictures().items()]
CASES += [(name, make, "application/json") for name, make in documents().items()]


@pytest.mark.parametrize(("name", "make", "content_type"), CASES, ids=[case[0] for case in CASES])
def test_two_of_them_cost_little_and_an_ordinary_photo_is_answered_meanwhile(
    measured, name, make, content_type
):
    body = make()
    statuses = measured.limited(*AT_ONCE * [lambda: measured.ask(body, content_type).status_code])
    assert set(statuses) <= REFUSALS | {200}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_them_is_one_request_and_costs_no_more(measured, name):
    files = IN_A_BATCH * [("files", BATCHES[name]())]

    def ask() -> list[str]:
        answer = httpx.post(f"{measured.url}/v1/emotion/batch", files=files, timeout=60).json()
        return [item["problem"]["code"] if "problem" in item else "" for item in answer["items"]]

    (codes,) = measured.limited(ask)
    assert len(codes) == IN_A_BATCH
    assert set(codes) == {"", "too_many_images"}
