"""The queue of jobs, with plain coroutines as work."""

import asyncio

import pytest
from ferserve.benchmark.jobs import HISTORY, JobQueue, JobSpec
from ferserve.errors import InternalError, InvalidArchive, NotFound, NotReady, QueueFull, Refusal

SPEC = JobSpec(("first",), "all")


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
    accuracies = {"first": 0.5}  # noqa: RUF012
    result = None


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr("ferserve.benchmark.jobs.EVENT_INTERVAL", 0.0)


@pytest.fixture
async def queue():
    queue = JobQueue(2)
    queue.start()
    yield queue
    await queue.close()


async def ended(job):
    async for state in job.follow():
        last = state
    return last


async def test_a_job_runs_and_leaves_its_outcome(queue):
    work = Work()
    job = queue.submit(SPEC, work)
    assert job.status == "queued"
    await work.begun.wait()
    assert job.status == "running"
    work.gate.set()
    state = await ended(job)
    assert state.status == "succeeded"
    assert state.accuracy == {"first": 0.5}
    assert state.created_at <= state.started_at <= state.finished_at


async def test_one_job_runs_at_a_time_in_the_order_they_came(queue):
    first, second = Work(), Work()
    jobs = [queue.submit(SPEC, first), queue.submit(SPEC, second)]
    await first.begun.wait()
    await asyncio.sleep(0)
    assert not second.begun.is_set()
    first.gate.set()
    await second.begun.wait()
    assert [job.status for job in jobs] == ["succeeded", "running"]


async def test_beyond_the_queue_jobs_are_refused(queue):
    work = [Work() for _ in range(3)]
    jobs = [queue.submit(SPEC, one) for one in work]
    await work[0].begun.wait()
    with pytest.raises(QueueFull, match="2 benchmarks"):
        queue.submit(SPEC, Work())
    with pytest.raises(QueueFull), queue.reserve():
        pass
    work[0].gate.set()
    await work[1].begun.wait()
    assert queue.submit(SPEC, Work()).status == "queued"
    assert len(queue.jobs) == len(jobs) + 1


async def test_a_place_is_held_while_an_upload_is_read(queue):
    with queue.reserve(), queue.reserve(), queue.reserve(), pytest.raises(QueueFull):
        queue.submit(SPEC, Work())
    assert queue.submit(SPEC, Work())


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (InvalidArchive("no luck"), "invalid_archive", "no luck"),
        (Refusal("no luck", code="nothing_to_score"), "nothing_to_score", "no luck"),
        (ValueError("secret"), "internal_error", "the service's log has more"),
        (InternalError("secret"), "internal_error", "the service's log has more"),
    ],
    ids=["refusal", "refusal of a job", "fault", "failed batch"],
)
async def test_a_failure_is_explained_and_the_next_job_runs(queue, error, code, detail):
    async def fail(job):
        raise error

    state = await ended(queue.submit(SPEC, fail))
    assert state.status == "failed"
    assert (state.problem.code, state.problem.detail) == (code, detail)
    work = Work()
    work.gate.set()
    assert (await ended(queue.submit(SPEC, work))).status == "succeeded"


async def test_cancelling_ends_the_running_job_and_its_work(queue):
    work, after = Work(), Work()
    job = queue.submit(SPEC, work)
    await work.begun.wait()
    queue.submit(SPEC, after)
    assert queue.cancel(job.id).status == "cancelled"
    await after.begun.wait()
    assert work.cancelled
    assert job.status == "cancelled"


async def test_a_job_cancelled_while_it_waits_never_runs(queue):
    first, second, third = Work(), Work(), Work()
    queue.submit(SPEC, first)
    job = queue.submit(SPEC, second)
    queue.submit(SPEC, third)
    queue.cancel(job.id)
    first.gate.set()
    await third.begun.wait()
    assert not second.begun.is_set()


async def test_cancelling_what_has_ended_changes_nothing(queue):
    work = Work()
    work.gate.set()
    job = queue.submit(SPEC, work)
    await ended(job)
    assert queue.cancel(job.id).status == "succeeded"


async def test_an_ended_job_holds_its_upload_no_more(queue):
    work = Work()
    work.gate.set()
    job = queue.submit(SPEC, work)
    assert job.work is work
    await ended(job)
    assert job.work is None


async def test_a_follower_hears_of_progress_and_of_the_end(queue):
    proceed = asyncio.Event()

    async def work(job):
        await proceed.wait()
        job.advance("scoring", 5, 10, model="first", rate=2.5)
        await asyncio.sleep(0.5)
        return Outcome()

    job = queue.submit(SPEC, work)
    states = []
    async for state in job.follow():
        states.append(state)
        proceed.set()
    assert states[0].status == "queued"
    scoring = [state.progress for state in states if state.progress.stage == "scoring"]
    assert (scoring[0].done, scoring[0].total, scoring[0].seconds_left) == (5, 10, 2.0)
    assert states[-1].status == "succeeded"
    assert states[-1].progress.stage == "finished"


async def test_a_silent_job_is_heard_of_now_and_then(queue, monkeypatch):
    monkeypatch.setattr("ferserve.benchmark.jobs.KEEP_ALIVE", 0.01)
    work = Work()
    follower = queue.submit(SPEC, work).follow()
    await work.begun.wait()
    while await anext(follower) is not None:
        pass
    await follower.aclose()


async def test_the_last_jobs_are_remembered_newest_first(queue):
    jobs = []
    for _ in range(HISTORY + 3):
        work = Work()
        work.gate.set()
        job = queue.submit(SPEC, work)
        await ended(job)
        jobs.append(job)
    assert queue.jobs == jobs[: -HISTORY - 1 : -1]
    with pytest.raises(NotFound):
        queue.get(jobs[0].id)


async def test_closing_cancels_all_and_takes_no_more():
    queue = JobQueue(2)
    queue.start()
    running, waiting = Work(), Work()
    jobs = [queue.submit(SPEC, running), queue.submit(SPEC, waiting)]
    await running.begun.wait()
    await queue.close()
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    assert running.cancelled
    with pytest.raises(NotReady):
        queue.submit(SPEC, Work())


async def test_a_queue_that_was_not_started_takes_nothing():
    queue = JobQueue(2)
    with pytest.raises(NotReady):
        queue.submit(SPEC, Work())
    await queue.close()
