"""What ``/metrics`` tells after requests that were answered, refused, late or given up."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from ferserve.batcher import Batcher, Lane
from ferserve.metrics import Metrics
from in_process import serving
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
async def client(standin_models) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(standin_models) as client:
        yield client


def parse(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


class Samples:
    """A page of metrics to ask for single values."""

    def __init__(self, page: str) -> None:
        self._values = parse(page)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._values.get((f"ferserve_{name}", frozenset(labels.items())))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._values}


async def scrape(client: httpx.AsyncClient) -> Samples:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Samples(response.text)


async def test_the_stages_before_inference_are_timed(client, grey_crop, photo):
    await client.post("/v1/emotion", content=grey_crop)  # one face as it is: no detector
    await client.post("/v1/emotion", content=photo("coffee"))
    await client.post("/v1/emotion", content=b"text")
    metrics = await scrape(client)
    assert metrics("preparation_seconds_count", stage="decode") == 2
    assert metrics("preparation_seconds_count", stage="detect") == 1


async def test_requests_are_counted_by_route_and_code(client, grey_crop):
    for body in (grey_crop, grey_crop, b"text"):
        await client.post("/v1/emotion", content=body)
    await client.get("/v1/models/first")
    await client.get("/v1/models/third")
    metrics = await scrape(client)
    emotion = {"method": "POST", "route": "/v1/emotion"}
    assert metrics("http_requests_total", code="200", **emotion) == 2
    assert metrics("http_requests_total", code="415", **emotion) == 1
    assert metrics("http_request_duration_seconds_count", **emotion) == 3
    model = {"method": "GET", "route": "/v1/models/{name}"}
    assert metrics("http_requests_total", code="404", **model) == 1


async def test_callers_cannot_make_up_label_values(client):
    for number in range(3):
        await client.get(f"/nowhere/{number}")
        await client.request(f"METHOD{number}", "/livez")
    metrics = await scrape(client)
    assert metrics("http_requests_total", method="GET", route="other", code="404") == 3
    assert metrics("http_requests_total", method="other", route="/livez", code="405") == 3


async def test_batches_are_measured_by_model(client, grey_crop):
    await client.post("/v1/emotion?model=second", content=grey_crop)
    metrics = await scrape(client)
    live = {"model": "second", "lane": "live"}
    assert metrics("batch_faces_sum", **live) == 1
    assert metrics("queue_seconds_count", **live) == 1
    assert metrics("inference_seconds_count", model="second") == 1
    assert metrics("batches_total", reason="idle_worker", **live) == 1
    assert metrics("queue_faces", **live) == metrics("images_under_way") == 0
    for reason in ("rejected", "expired", "cancelled"):
        assert metrics("faces_dropped_total", reason=reason, **live) == 0
        assert metrics("images_dropped_total", reason=reason) == 0


async def test_models_providers_and_readiness_are_shown(client):
    metrics = await scrape(client)
    for name in ("first", "second"):
        provider = "CPUExecutionProvider"
        assert metrics("model_info", model=name, version="0.0.1", provider=provider) == 1
    assert metrics("ready") == 1
    client.app.state.recognizer.begin_drain()
    assert (await scrape(client))("ready") == 0


async def test_faces_are_counted_by_emotion_only_where_the_operator_wants_it(
    standin_models, grey_crop
):
    async with serving(standin_models) as client:
        await client.post("/v1/emotion", content=grey_crop)
        assert "ferserve_faces_total" not in (await scrape(client)).names
    async with serving(standin_models, metrics_emotions=True) as client:
        answer = (await client.post("/v1/emotion", content=grey_crop)).json()
        emotion = answer["faces"][0]["dominant_emotion"]
        assert (await scrape(client))("faces_total", emotion=emotion) == 1


async def test_each_application_counts_for_itself(standin_models):
    async with serving(standin_models) as one, serving(standin_models) as other:
        await one.get("/livez")
        alive = {"method": "GET", "route": "/livez", "code": "200"}
        assert (await scrape(one))("http_requests_total", **alive) == 1
        assert (await scrape(other))("http_requests_total", **alive) is None


async def test_images_that_are_refused_or_late_are_counted(standin_models, photo):
    data = photo("astronaut")
    async with serving(standin_models, max_queue=2, max_faces=2) as client:
        responses = await asyncio.gather(
            *(client.post("/v1/emotion", content=data) for _ in range(9))
        )
        refused = sum(response.status_code == 429 for response in responses)
        assert refused > 0
        assert (await scrape(client))("images_dropped_total", reason="rejected") == refused
    async with serving(standin_models, request_timeout_ms=0.01) as client:
        await client.post("/v1/emotion", content=data)
        assert (await scrape(client))("images_dropped_total", reason="expired") == 1


# Batches with workers that are held, so that every reason is forced


async def held_batcher(metrics: Metrics, **options):
    gate, entered = threading.Event(), threading.Semaphore(0)

    def run(items: list[int]) -> list[int]:
        entered.release()
        assert gate.wait(10)
        return items

    batcher = Batcher(run, name="held", metrics=metrics, **options)
    batcher.start()
    return batcher, gate, entered


def soon() -> float:
    return asyncio.get_running_loop().time() + 10


async def test_the_queue_and_what_leaves_it_unanswered_are_counted():
    metrics = Metrics()
    batcher, gate, entered = await held_batcher(metrics, max_queue=3)
    busy = asyncio.create_task(batcher.submit([0], soon()))
    assert await asyncio.to_thread(entered.acquire, timeout=10)
    leaver = asyncio.create_task(batcher.submit([1, 2], soon()))
    late = asyncio.create_task(batcher.submit([3], soon() - 9.95))
    await asyncio.sleep(0)
    live = {"model": "held", "lane": "live"}
    assert Samples(generate_latest(metrics.registry).decode())("queue_faces", **live) == 3
    with pytest.raises(Exception, match="places are taken"):
        await batcher.submit([4, 5], soon())
    leaver.cancel()
    results = await asyncio.gather(leaver, late, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["CancelledError", "DeadlineExceeded"]
    gate.set()
    await busy
    await batcher.close()
    samples = Samples(generate_latest(metrics.registry).decode())
    dropped = {
        reason: samples("faces_dropped_total", reason=reason, **live)
        for reason in ("rejected", "expired", "cancelled")
    }
    assert dropped == {"rejected": 2, "expired": 1, "cancelled": 2}


@pytest.mark.parametrize(
    ("options", "items", "reason"),
    [
        ({"max_batch": 2}, 2, "full"),
        ({"max_batch": 4}, 2, "idle_worker"),
        ({"max_batch": 4, "max_wait": 0.01}, 2, "wait_over"),
    ],
)
async def test_why_a_batch_was_released_is_counted(options, items, reason):
    metrics = Metrics()
    batcher, gate, _ = await held_batcher(metrics, **options)
    gate.set()
    await batcher.submit(list(range(items)), soon(), Lane.LIVE)
    await batcher.close()
    samples = Samples(generate_latest(metrics.registry).decode())
    assert samples("batches_total", model="held", lane="live", reason=reason) == 1


# The same times, in the answer


async def test_an_answer_says_where_its_time_went(client, grey_crop):
    response = await client.post("/v1/emotion", content=grey_crop)
    timing = response.json()["timing_ms"]
    entries = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
    assert list(entries) == list(timing)
    for name, shown in entries.items():
        assert float(shown) == pytest.approx(timing[name], abs=0.051)


async def test_no_cache_may_keep_an_answer(client, grey_crop):
    response = await client.post("/v1/emotion", content=grey_crop)
    assert response.headers["cache-control"] == "no-store"
