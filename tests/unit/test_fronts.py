"""What passes between an engine and its fronts: here in one process, over real sockets."""

import asyncio
import math
import os
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest
from ferserve.batcher import BatcherClosed, BatchFailed, DeadlineExceeded, QueueFull
from ferserve.errors import QueueFull as QueueFullProblem
from ferserve.errors import RateLimited
from ferserve.fronts.channel import CallFailed, Channel, ChannelLost
from ferserve.fronts.engine import REFUSALS, Desk, Engine
from ferserve.fronts.limits import EngineLimiter, Share, SharedBudget, SharedStreams
from ferserve.fronts.memory import Held, Layout, Memory, Slots, create_memory
from ferserve.fronts.metrics import FleetMetrics
from ferserve.fronts.queue import EngineQueue
from ferserve.metrics import Metrics
from ferserve.recognizer import Recognizer
from ferserve.settings import Settings
from ferserve.streaming import TooManyStreams
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

SOON = 20.0
FACES = np.random.default_rng(7).integers(0, 256, (32, 48, 48), np.uint8)


@asynccontextmanager
async def channels(ours=None, theirs=None, refusals=()):
    """Both ends of a channel, with the methods of each."""
    loop = asyncio.get_running_loop()
    ends = []
    for end, methods in zip(socket.socketpair(), (ours or {}, theirs or {}), strict=True):
        _, channel = await loop.create_unix_connection(
            lambda methods=methods: Channel(methods, refusals), sock=end
        )
        ends.append(channel)
    try:
        yield ends
    finally:
        for channel in ends:
            channel.close()


@dataclass
class Serving:
    """An engine, and what two fronts have of it."""

    engine: Engine
    recognizer: Recognizer
    fronts: list[SimpleNamespace]

    @property
    def model(self):
        return self.recognizer.served("first")

    def dropped(self, reason: str) -> float:
        page = self.recognizer._observer.render().decode()
        labels = {"model": "first", "lane": "live", "reason": reason}
        return value(page, "ferserve_faces_dropped_total", **labels)


@asynccontextmanager
async def serving(models_dir, **options):
    """An engine with one worker a model, and two fronts, each with its own map of the memory."""
    settings = Settings(
        models_dir=models_dir,
        default_model="first",
        inference_workers=1,
        front_processes=2,
        **options,
    )
    metrics = FleetMetrics()
    recognizer = Recognizer(settings, metrics)
    engine = Engine(settings, recognizer, metrics)
    descriptor = create_memory(engine.layout.size)
    memory = Memory(descriptor, engine.layout)
    async with engine.running():
        desks = [Desk(engine, memory, number) for number in range(2)]
        async with (
            channels(desks[0].methods, refusals=REFUSALS) as first,
            channels(desks[1].methods, refusals=REFUSALS) as second,
        ):
            fronts = []
            for desk, (ours, theirs) in zip(desks, (first, second), strict=True):
                desk.channel = ours
                start = await theirs.call("join")
                seen = Memory(descriptor, start.layout)
                slots = Slots(seen.faces[start.front], seen.answers[start.front])
                queue = EngineQueue(theirs, slots, "first", Metrics().count_batches("first"))
                queue.start()
                fronts.append(SimpleNamespace(channel=theirs, slots=slots, queue=queue, desk=desk))
            yield Serving(engine, recognizer, fronts)
    os.close(descriptor)


def value(page: str, name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    (only,) = found
    return only


class Stuck:
    """Stands in for a model's ``predict``, which returns when it is let."""

    def __init__(self, served) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self._whole = served.bundle.predict
        served.bundle.predict = self

    def __call__(self, faces):
        self.begun.set()
        assert self.let.wait(SOON)
        return self._whole(faces)


async def test_fronts_get_the_answers_of_their_own_faces(standin_models):
    async with serving(standin_models) as service:
        expected = service.model.bundle.predict(FACES)
        asked = [
            (front.queue, number)
            for number in range(32)
            for front in service.fronts
        ]  # fmt: skip
        answers = await asyncio.gather(
            *(queue.submit([FACES[number]], monotonic() + SOON) for queue, number in asked)
        )
        for (_, number), (answer,) in zip(asked, answers, strict=True):
            np.testing.assert_allclose(answer.value, expected[number], atol=1e-6)
            assert answer.inference_seconds > 0
            assert answer.queue_seconds >= 0
        places = service.engine.layout.slots
        assert [front.slots.free for front in service.fronts] == [places, places]


async def test_what_does_not_fit_in_the_engines_queue_is_refused_and_counted(standin_models):
    async with serving(standin_models, max_queue=32, max_batch=1) as service:
        with pytest.raises(QueueFull):
            await service.fronts[0].queue.submit([*FACES, FACES[0]], monotonic() + SOON)
        assert service.dropped("rejected") == 33
        assert service.fronts[0].slots.free == service.engine.layout.slots


async def test_a_front_without_a_free_slot_refuses_and_counts(standin_models):
    async with serving(standin_models) as service:
        front, metrics = service.fronts[0], Metrics()
        few = Slots(np.zeros((3, 48, 48), np.uint8), np.zeros((3, 9), np.float32))
        queue = EngineQueue(front.channel, few, "first", metrics.count_batches("first"))
        queue.start()
        with pytest.raises(QueueFull):
            await queue.submit(list(FACES[:4]), monotonic() + SOON)
        assert few.free == 3
        page = metrics.render().decode()
        labels = {"model": "first", "lane": "live", "reason": "rejected"}
        assert value(page, "ferserve_faces_dropped_total", **labels) == 4


async def test_deadlines_are_the_engines(standin_models):
    async with serving(standin_models) as service:
        stuck = Stuck(service.model)
        front = service.fronts[0]
        with pytest.raises(DeadlineExceeded):
            await front.queue.submit(list(FACES[:2]), monotonic() + 0.05)
        assert service.dropped("expired") == 2
        assert front.slots.free == service.engine.layout.slots
        stuck.let.set()


async def test_a_failed_batch_is_passed_through_and_logged_with_its_cause(standin_models, caplog):
    async with serving(standin_models) as service:

        def fails(_faces):
            raise ValueError("the reason")

        service.model.bundle.predict = fails
        with pytest.raises(BatchFailed):
            await service.fronts[0].queue.submit([FACES[0]], monotonic() + SOON)
    assert "ValueError: the reason" in caplog.text


async def test_a_dead_worker_is_passed_through_and_seen(standin_models):
    async with serving(standin_models) as service:

        def dies(_faces):
            raise SystemExit

        front, whole = service.fronts[0], service.model.bundle.predict
        assert await front.channel.call("health") == {"first": True, "second": True}
        service.model.bundle.predict = dies
        with pytest.raises(BatcherClosed):
            await front.queue.submit([FACES[0]], monotonic() + SOON)
        assert await front.channel.call("health") == {"first": False, "second": True}
        service.model.bundle.predict = whole
        await until(lambda: service.model.batcher.healthy)
        assert len(await front.queue.submit([FACES[0]], monotonic() + SOON)) == 1


async def test_a_request_given_up_leaves_the_engines_queue_and_frees_its_slots(standin_models):
    async with serving(standin_models) as service:
        stuck = Stuck(service.model)
        front, places = service.fronts[0], service.engine.layout.slots
        computed = asyncio.create_task(front.queue.submit([FACES[0]], monotonic() + SOON))
        await asyncio.to_thread(stuck.begun.wait, SOON)
        waiting = asyncio.create_task(front.queue.submit(list(FACES[1:4]), monotonic() + SOON))
        await until(lambda: front.slots.free == places - 4)
        await front.channel.call("health")  # what was sent before has arrived, too
        for task in (computed, waiting):
            task.cancel()
        await asyncio.wait({computed, waiting})
        assert front.slots.free == places - 4  # not before the engine is done with them
        await until(lambda: front.slots.free == places)
        assert service.dropped("cancelled") == 4
        answers = asyncio.create_task(front.queue.submit(list(FACES[8:12]), math.inf))
        stuck.let.set()
        rows = [answer.value for answer in await answers]
        np.testing.assert_allclose(rows, service.model.bundle.predict(FACES[8:12]), atol=1e-6)


async def test_a_front_that_is_gone_leaves_the_engines_queue_and_disturbs_no_other(standin_models):
    async with serving(standin_models) as service:
        stuck = Stuck(service.model)
        gone, other = service.fronts
        lost = asyncio.create_task(gone.queue.submit(list(FACES[:5]), monotonic() + SOON))
        await asyncio.to_thread(stuck.begun.wait, SOON)
        kept = asyncio.create_task(other.queue.submit(list(FACES[:5]), monotonic() + SOON))
        gone.channel.close()
        with pytest.raises(BatcherClosed):
            await lost
        await until(lambda: service.dropped("cancelled") == 5)
        stuck.let.set()
        assert len(await kept) == 5


async def test_without_the_engine_nothing_is_taken(standin_models):
    async with serving(standin_models) as service:
        front = service.fronts[0]
        front.desk.channel.close()
        with pytest.raises(BatcherClosed):
            await front.queue.submit([FACES[0]], monotonic() + SOON)
        await until(lambda: front.channel._transport is None)
        with pytest.raises(BatcherClosed):
            await front.queue.submit([FACES[0]], monotonic() + SOON)
        assert front.slots.free == service.engine.layout.slots


async def test_calls_are_counted_over_all_fronts(standin_models):
    async with serving(standin_models, rate_limit="2/hour") as service:
        first, second = (EngineLimiter(front.channel) for front in service.fronts)
        await first.hit("somebody")
        await second.hit("somebody")
        for limiter in (first, second):
            with pytest.raises(RateLimited, match="2 per 1 hour") as refused:
                await limiter.hit("somebody")
            assert int(refused.value.headers["Retry-After"]) > 1
        await first.hit("somebody else")


def test_bytes_and_streams_are_counted_over_all_fronts():
    held = np.zeros((2, len(Held)), np.int64)
    first, second = (SharedBudget(100, Share(held, front, Held.UPLOAD_BYTES)) for front in range(2))
    first.take(60)
    with pytest.raises(QueueFullProblem):
        second.take(41)
    second.take(40)
    first.give_back(60)
    with second.request() as take:
        take(60)
    assert held[:, Held.UPLOAD_BYTES].tolist() == [0, 40]
    here, there = (
        SharedStreams(1, Metrics(), Share(held, front, Held.STREAMS)) for front in range(2)
    )
    with here.place("a stream"), pytest.raises(TooManyStreams), there.place("another"):
        pass
    with there.place("another"):
        assert held[:, Held.STREAMS].tolist() == [0, 1]


async def test_the_page_adds_up_all_processes_and_forgets_nothing():
    page, fronts = FleetMetrics(), [Metrics(), Metrics()]
    for number, metrics in enumerate(fronts):

        async def ask(metrics=metrics):
            return metrics.families()

        metrics.request_done("GET", "/livez", 200, 0.02)
        metrics.watch_images(lambda number=number: 5 + number)
        page.front_joined(number, ask)
    fronts[1].request_done("GET", "/policy", 200, 0.02)
    page.request_done("GET", "/livez", 200, 3.0)
    page.watch_readiness(lambda: True)
    fronts[0].watch_readiness(lambda: True)

    async def shown(name: str, **labels: str) -> float:
        return value((await page.page()).decode(), name, **labels)

    requests = {"method": "GET", "route": "/livez"}
    name = "ferserve_http_requests_total"
    assert await shown(name, **requests, code="200") == 3
    assert await shown(name, method="GET", route="/policy", code="200") == 1
    seconds = "ferserve_http_request_duration_seconds"
    assert await shown(f"{seconds}_bucket", **requests, le="0.025") == 2
    assert await shown(f"{seconds}_bucket", **requests, le="+Inf") == 3
    assert await shown("ferserve_images_under_way") == 11
    assert await shown("ferserve_ready") == 1
    page.front_left(1)
    assert await shown(name, **requests, code="200") == 3
    assert await shown(name, method="GET", route="/policy", code="200") == 1
    assert await shown("ferserve_images_under_way") == 5


async def test_a_front_that_does_not_answer_is_shown_as_it_was():
    page, front = FleetMetrics(), Metrics()
    front.request_done("GET", "/livez", 200, 0.02)
    answers = [front.families()]

    async def ask():
        if not answers:
            raise ChannelLost
        return answers.pop()

    page.front_joined(0, ask)
    assert await page.page()
    labels = {"method": "GET", "route": "/livez", "code": "200"}
    assert value((await page.page()).decode(), "ferserve_http_requests_total", **labels) == 1


@pytest.mark.parametrize("has_memfd", [True, False], ids=["memfd", "without"])
def test_memory_has_no_name_and_is_seen_through_every_map(monkeypatch, has_memfd):
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    layout = Layout(fronts=2, slots=5)
    descriptor = create_memory(layout.size)
    first, second = Memory(descriptor, layout), Memory(descriptor, layout)
    os.close(descriptor)
    assert not first.faces.any()
    slots = Slots(first.faces[1], first.answers[1])
    places = slots.put(list(FACES[:3]))
    np.testing.assert_array_equal(second.faces[1][places], FACES[:3])
    assert not second.faces[0].any()
    with pytest.raises(QueueFull):
        slots.put(list(FACES[:3]))
    assert slots.free == 2


async def test_calls_go_both_ways_whole_and_side_by_side():
    released = asyncio.Event()

    async def length(data: bytes) -> int:
        return len(data)

    async def last() -> str:
        await released.wait()
        return "last"

    async with channels({"length": length, "last": last}, {"length": length}) as (ours, theirs):
        slow = asyncio.create_task(theirs.call("last"))
        sizes = [5_000_000, 0, 70_000]
        assert await asyncio.gather(*(theirs.call("length", bytes(n)) for n in sizes)) == sizes
        assert await ours.call("length", b"three") == 5
        assert not slow.done()
        released.set()
        assert await slow == "last"


async def test_a_fault_is_logged_where_it_is_and_only_named_where_it_is_not(caplog):
    async def fails() -> None:
        raise KeyError("details")

    async def refuses() -> None:
        raise QueueFull("no place")

    methods = {"fails": fails, "refuses": refuses}
    async with channels(methods, refusals=(QueueFull,)) as (_, theirs):
        with pytest.raises(CallFailed, match="KeyError"):
            await theirs.call("fails")
        with pytest.raises(QueueFull, match="no place"):
            await theirs.call("refuses")
    assert "details" in caplog.text


async def test_a_call_given_up_is_cancelled_at_the_other_end():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    async with channels({"endless": endless}) as (_, theirs):
        calling = asyncio.create_task(theirs.call("endless"))
        await begun.wait()
        calling.cancel()
        async with asyncio.timeout(SOON):
            await ended.wait()
        at_once = theirs.begin("endless")
        theirs.cancel(at_once)
        async with asyncio.timeout(SOON):
            assert (await at_once.ended).error is None
