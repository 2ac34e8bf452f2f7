"""The queue of jobs, with plain coroutines as work."""

import asyncio
import weakref
from types import SimpleNamespace

import pytest
from ferserve.benchmark.jobs import HISTORY, Job, JobQueue
from ferserve.errors import InternalError, InvalidArchive, NotFound, NotReady, QueueFull, Refusal
from ferserve.schemas import ModelReference
from in_process import queued

MODEL = ModelReference(name="first", version="1.0.0", sha256="0" * 64)


class Work:
    """Waits at a gate, and notes that it began and how it ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = False

    async def __call__(self, job):
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Outcome()


class Outcome:
    result = SimpleNamespace(results=[SimpleNamespace(model=MODEL, accuracy=0.5)])
    mistakes = None


@pytest.fixture
async def queue(monkeypatch):
    monkeypatch.setattr("ferserve.benchmark.jobs.MAX_WAITING", 2)
    queue = JobQueue()
    yield queue
    await queue.close()


def submit(queue, work) -> Job:
    with queue.reserve():
        return queue.submit(queued(), work)


async def ended(job):
    await asyncio.wait({job.task})
    return job.state


async def test_a_job_runs_and_leaves_its_outcome(queue):
    work = Work()
    job = submit(queue, work)
    assert job.state.status == "queued"
    await work.begun.wait()
    assert job.state.status == "running"
    work.gate.set()
    state = await ended(job)
    assert state.status == "succeeded"
    assert state.accuracy == {"first": 0.5}
    assert state.created_at <= state.started_at <= state.finished_at


async def test_one_job_runs_at_a_time_in_the_order_they_came(queue):
    first, second = Work(), Work()
    jobs = [submit(queue, first), submit(queue, second)]
    await first.begun.wait()
    await asyncio.sleep(0)
    assert not second.begun.is_set()
    first.gate.set()
    await second.begun.wait()
    assert [job.state.status for job in jobs] == ["succeeded", "running"]


async def test_beyond_the_queue_jobs_are_refused(queue):
    work = [Work() for _ in range(3)]
    jobs = [submit(queue, one) for one in work]
    await work[0].begun.wait()
    with pytest.raises(QueueFull, match="at most 2 benchmarks"):
        submit(queue, Work())
    with pytest.raises(QueueFull), queue.reserve():
        pass
    work[0].gate.set()
    await work[1].begun.wait()
    assert submit(queue, Work()).state.status == "queued"
    assert len(queue.jobs) == len(jobs) + 1


async def test_a_place_is_held_while_an_upload_is_read(queue):
    with queue.reserve(), queue.reserve(), queue.reserve(), pytest.raises(QueueFull):
        submit(queue, Work())
    assert submit(queue, Work())


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (InvalidArchive("no luck"), "invalid_archive", "no luck"),
        (Refusal("no luck", code="nothing_to_score"), "nothing_to_score", "no luck"),
        (ValueError("secret"), "internal_error", "the service's log has more"),
        (InternalError("secret"), "internal_error", "the service's log has more"),
        (ExceptionGroup("", [NotReady("no luck")]), "not_ready", "no luck"),
    ],
    ids=["refusal", "refusal of a job", "fault", "failed batch", "failed stream of batches"],
)
async def test_a_failure_is_explained_and_the_next_job_runs(queue, error, code, detail):
    async def fail(job):
        raise error

    state = await ended(submit(queue, fail))
    assert state.status == "failed"
    assert (state.problem.code, state.problem.detail) == (code, detail)
    work = Work()
    work.gate.set()
    assert (await ended(submit(queue, work))).status == "succeeded"


async def test_cancelling_ends_the_running_job_and_its_work(queue):
    work, after = Work(), Work()
    job = submit(queue, work)
    await work.begun.wait()
    submit(queue, after)
    job.cancel()
    assert job.state.status == "cancelled"
    await after.begun.wait()
    assert work.cancelled
    assert job.state.status == "cancelled"


async def test_a_job_cancelled_while_it_waits_never_runs(queue):
    first, second, third = Work(), Work(), Work()
    submit(queue, first)
    job = submit(queue, second)
    submit(queue, third)
    job.cancel()
    first.gate.set()
    await third.begun.wait()
    assert not second.begun.is_set()


async def test_cancelling_what_has_ended_changes_nothing(queue):
    work = Work()
    work.gate.set()
    job = submit(queue, work)
    await ended(job)
    job.cancel()
    assert job.state.status == "succeeded"


@pytest.mark.parametrize("end", ["succeeds", "is cancelled", "is cancelled while it waits"])
async def test_an_ended_job_holds_its_upload_no_more(queue, end):
    before = submit(queue, Work()) if "waits" in end else None
    work = Work()
    held = weakref.ref(work)
    if end == "succeeds":
        work.gate.set()
    job = submit(queue, work)
    del work
    await asyncio.sleep(0)
    if "cancelled" in end:
        job.cancel()
    await ended(job)
    assert held() is None
    assert before is None or not before.ended


async def test_a_job_tells_how_far_it_is_and_for_how_long(queue):
    proceed = asyncio.Event()

    async def work(job):
        job.advance("scoring", 5, 10, model="first", rate=2.5)
        await proceed.wait()
        return Outcome()

    job = submit(queue, work)
    assert job.state.progress.stage == "waiting"
    await asyncio.sleep(0)
    progress = job.state.progress
    assert (progress.stage, progress.model, progress.done, progress.total) == (
        "scoring", "first", 5, 10,
    )  # fmt: skip
    assert progress.seconds_left == 2.0
    proceed.set()
    progress = (await ended(job)).progress
    assert (progress.stage, progress.done, progress.seconds_left) == ("finished", 5, None)


async def test_work_that_outlives_its_cancellation_changes_nothing(queue):
    proceed, over = asyncio.Event(), asyncio.Event()

    async def deaf(job):
        try:
            await proceed.wait()
        except asyncio.CancelledError:
            job.advance("scoring", 1, 2)
            over.set()
        return Outcome()

    job = submit(queue, deaf)
    await asyncio.sleep(0)
    job.cancel()
    state = await ended(job)
    assert over.is_set()
    assert (state.status, state.accuracy, state.progress.stage) == ("cancelled", {}, "finished")


async def test_the_last_jobs_are_remembered_newest_first(queue):
    jobs = []
    for _ in range(HISTORY + 3):
        work = Work()
        work.gate.set()
        job = submit(queue, work)
        await ended(job)
        jobs.append(job)
    assert queue.jobs == jobs[: -HISTORY - 1 : -1]
    with pytest.raises(NotFound):
        queue.get(jobs[0].state.id)


async def test_closing_cancels_all_and_takes_no_more():
    queue = JobQueue()
    running, waiting = Work(), Work()
    jobs = [submit(queue, running), submit(queue, waiting)]
    await running.begun.wait()
    await queue.close()
    assert [job.state.status for job in jobs] == ["cancelled", "cancelled"]
    assert running.cancelled
    with pytest.raises(NotReady):
        submit(queue, Work())
