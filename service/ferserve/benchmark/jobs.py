"""One job at a time, a short queue, and the last jobs to look back on.

Knows neither HTTP nor what a job does. All of it belongs to one event loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ferserve.benchmark.results import Mistakes, Outcome
from ferserve.benchmark.schemas import BenchmarkDetails, JobProblem, Progress, Stage, Status
from ferserve.errors import InternalError, NotFound, NotReady, QueueFull, Refusal

HISTORY = 20
"""Jobs that are remembered, those that wait and run included."""

MAX_WAITING = 3
"""Jobs that wait while one runs."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """A benchmark: what the API shows of it, what only the report does, and what does it.

    Attributes:
        owner: Name of the key that may see it; without keys all may.
        release: Is called at the end, when the upload is let go.
    """

    state: BenchmarkDetails
    mistakes: Mistakes | None = None
    owner: str | None = None
    release: Callable[[], None] = lambda: None
    task: asyncio.Task[None] = field(init=False)

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.state.finished_at is not None

    def advance(
        self, stage: Stage, done: int = 0, total: int = 0, model: str | None = None, rate: float = 0
    ) -> None:
        """Notes how far the job is, in faces and at ``rate`` faces a second."""
        if self.ended:  # the work has not heard of its cancellation yet
            return
        self.state.progress = Progress(
            stage=stage,
            model=model,
            done=done,
            total=total,
            faces_per_second=rate or None,
            seconds_left=(total - done) / rate if rate else None,
        )

    def end(self, status: Status, problem: JobProblem | None = None) -> None:
        """Notes the end, unless the job has ended already."""
        if self.ended:
            return
        self.advance("finished", self.state.progress.done, self.state.progress.total)
        self.state.status, self.state.problem = status, problem
        self.state.finished_at = datetime.now(UTC)

    def cancel(self) -> None:
        """Ends a job that waits or runs; one that has ended stays as it is."""
        self.end("cancelled")
        self.task.cancel()


Work = Callable[[Job], Awaitable[Outcome]]


class JobQueue:
    """Runs jobs one after another; at most ``MAX_WAITING`` wait beside the one that runs."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._turn = asyncio.Lock()
        self._reserved = 0
        self._open = True

    @property
    def jobs(self) -> list[Job]:
        """The remembered jobs, newest first."""
        return list(reversed(self._jobs.values()))

    def begin_close(self) -> None:
        """Takes no more jobs and cancels those there are, so that nobody waits for them."""
        self._open = False
        for job in self._jobs.values():
            job.cancel()

    async def close(self) -> None:
        """Cancels every job and waits for the running one to let go."""
        self.begin_close()
        await asyncio.gather(*(job.task for job in self.jobs), return_exceptions=True)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Holds a place for ``submit``; QueueFull where there is none, NotReady at the end."""
        if not self._open:
            raise NotReady("the service takes no benchmarks now")
        unfinished = sum(not job.ended for job in self._jobs.values())
        if unfinished + self._reserved > MAX_WAITING:
            raise QueueFull(f"at most {MAX_WAITING} benchmarks may wait", {"Retry-After": "60"})
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def submit(self, state: BenchmarkDetails, work: Work) -> Job:
        """Queues a job, in a place that was reserved; an exception of its work fails it."""
        job = Job(state)
        job.task = asyncio.create_task(self._run(job, work))
        self._jobs[state.id] = job
        ended = [job_id for job_id, job in self._jobs.items() if job.ended]
        for job_id in ended[: max(0, len(self._jobs) - HISTORY)]:
            del self._jobs[job_id]
        return job

    def get(self, job_id: str) -> Job:
        """Returns a job; NotFound where there is none of this id."""
        if job_id not in self._jobs:
            raise NotFound(f"no benchmark has this id; the last {HISTORY} are kept")
        return self._jobs[job_id]

    async def _run(self, job: Job, work: Work) -> None:
        try:
            async with self._turn:
                job.state.status, job.state.started_at = "running", datetime.now(UTC)
                outcome = await work(job)
                if not job.ended:
                    job.state.result, job.mistakes = outcome.result, outcome.mistakes
                    results = outcome.result.results
                    job.state.accuracy = {one.model.name: one.accuracy for one in results}
                    job.end("succeeded")
        except asyncio.CancelledError:
            pass  # the task would keep it, and by its traceback the upload
        except Exception as error:
            job.end("failed", _problem_of(error))
        finally:
            job.end("cancelled")
            job.release()


def _problem_of(error: Exception) -> JobProblem:
    """Says what the owner of a job may know; logs what only the operator can mend."""
    if isinstance(error, ExceptionGroup):  # of a task group, which the first one has ended
        return _problem_of(error.exceptions[0])
    if isinstance(error, Refusal) and not isinstance(error, InternalError):
        return JobProblem(code=error.code, detail=error.detail)
    logger.error("a benchmark failed", exc_info=error)
    return JobProblem(code=InternalError.code, detail="the service's log has more")
