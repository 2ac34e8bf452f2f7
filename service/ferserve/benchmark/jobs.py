"""One job at a time, a short queue, and the last jobs to look back on.

Knows neither HTTP nor what a job does. All of it belongs to one event loop.
"""

import asyncio
import contextlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ferserve.benchmark.results import Outcome
from ferserve.benchmark.schemas import (
    Against,
    BenchmarkDetails,
    BenchmarkJob,
    JobProblem,
    Links,
    Progress,
    SplitName,
    Stage,
    Status,
)
from ferserve.errors import InternalError, NotFound, NotReady, QueueFull, Refusal
from ferserve.schemas import DetectMode

HISTORY = 20
"""Jobs that are remembered, those that wait and run included."""

EVENT_INTERVAL = 0.25
"""Least seconds between two events of a job."""

KEEP_ALIVE = 15.0
"""Seconds without news after which a follower hears that all is well."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobSpec:
    """What was asked for, as the API shows it."""

    models: tuple[str, ...]
    split: SplitName | None = None
    limit: int | None = None
    detect: DetectMode | None = None
    against: Against = "labels"

    @property
    def is_upload(self) -> bool:
        """Whether the data came with the request."""
        return self.split is None


Work = Callable[["Job"], Awaitable[Outcome]]


@dataclass(eq=False)
class Job:
    """A job's state; ``follow`` tells of its changes.

    Attributes:
        owner: Who may see it.
        release: Is called at the end, when the work is let go.
    """

    spec: JobSpec
    work: Work | None
    root_path: str = ""
    owner: str | None = None
    release: Callable[[], None] = lambda: None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: Status = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress = field(
        default_factory=lambda: Progress(
            stage="waiting",
            model=None,
            done=0,
            total=0,
            faces_per_second=None,
            seconds_left=None,
        )
    )
    outcome: Outcome | None = None
    problem: JobProblem | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether the job will not change any more."""
        return self.status in ("succeeded", "failed", "cancelled")

    def advance(
        self,
        stage: Stage,
        done: int,
        total: int,
        *,
        model: str | None = None,
        rate: float | None = None,
    ) -> None:
        """Notes how far the job is.

        Args:
            stage: What is being done.
            done: Faces done in this stage.
            total: Faces of this stage.
            model: The model being scored.
            rate: Faces a second.
        """
        if self.ended:  # a stream that was woken before its cancellation reached it
            return
        self.progress = Progress(
            stage=stage,
            model=model,
            done=done,
            total=total,
            faces_per_second=rate,
            seconds_left=(total - done) / rate if rate else None,
        )
        self._tell()

    def begin(self) -> None:
        """Notes the start."""
        self.status = "running"
        self.started_at = datetime.now(UTC)
        self._tell()

    def end(
        self,
        status: Status,
        *,
        outcome: Outcome | None = None,
        problem: JobProblem | None = None,
    ) -> None:
        """Notes the end and lets go of what the work held, an upload for one."""
        self.status, self.outcome, self.problem = status, outcome, problem
        self.finished_at = datetime.now(UTC)
        self.work = None
        self.release()
        last = self.progress
        self.progress = last.model_copy(
            update={
                "stage": "finished",
                "model": None,
                "faces_per_second": None,
                "seconds_left": None,
            }
        )
        self._tell()

    async def follow(self) -> AsyncIterator[BenchmarkJob | None]:
        """Yields the job now, after changes, and at its end; None where there is no news."""
        while True:
            changed = self._changed
            yield self.describe()
            if self.ended:
                return
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), KEEP_ALIVE)
                except TimeoutError:
                    yield None
            if not self.ended:
                await asyncio.sleep(EVENT_INTERVAL)

    def describe(self) -> BenchmarkJob:
        """Returns the job as the API shows it, without its result."""
        path = f"{self.root_path}/v1/benchmark/{self.id}"
        return BenchmarkJob(
            id=self.id,
            status=self.status,
            source="upload" if self.spec.is_upload else "operator",
            models=list(self.spec.models),
            split=self.spec.split,
            against=self.spec.against,
            limit=self.spec.limit,
            detect=self.spec.detect,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            progress=self.progress,
            accuracy=self.outcome.accuracies if self.outcome else {},
            problem=self.problem,
            links=Links(self=path, events=f"{path}/events", report=f"{path}/report"),
        )

    def details(self) -> BenchmarkDetails:
        """Returns the job as the API shows it, with its result."""
        return BenchmarkDetails(
            **dict(self.describe()), result=self.outcome.result if self.outcome else None
        )

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class JobQueue:
    """Runs jobs one after another.

    Args:
        max_waiting: Most jobs waiting beside the one that runs.
        root_path: Begins the paths in a job's links.
    """

    def __init__(self, max_waiting: int, root_path: str = "") -> None:
        self._max_waiting = max_waiting
        self._root_path = root_path
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._reserved = 0
        self._open = False
        self._runner: asyncio.Task[None] | None = None
        self._running: tuple[Job, asyncio.Task[Outcome]] | None = None

    @property
    def jobs(self) -> list[Job]:
        """The remembered jobs, newest first."""
        return list(reversed(self._jobs.values()))

    def start(self) -> None:
        """Begins to run jobs; once only."""
        self._open = True
        self._runner = asyncio.create_task(self._run_all())

    def begin_close(self) -> None:
        """Takes no more jobs and cancels those there are, so that nobody waits for them."""
        self._open = False
        for job in self.jobs:
            self.cancel(job.id)

    async def close(self) -> None:
        """Cancels every job and waits for the running one to let go."""
        self.begin_close()
        if self._running:
            await asyncio.wait({self._running[1]})
        if self._runner:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Holds a place while a request is read; ``submit`` right after it leaves finds it free.

        Raises:
            QueueFull: All places are taken.
            NotReady: No jobs are taken.
        """
        self._require_place()
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def submit(self, spec: JobSpec, work: Work) -> Job:
        """Queues a job.

        Args:
            spec: What was asked for.
            work: Does it; its exception fails the job, its cancellation ends it.

        Raises:
            QueueFull: All places are taken.
            NotReady: No jobs are taken.
        """
        self._require_place()
        job = Job(spec, work, self._root_path)
        self._jobs[job.id] = job
        self._waiting.put_nowait(job)
        self._forget_old()
        return job

    def get(self, job_id: str) -> Job:
        """Returns a job.

        Raises:
            NotFound: There is none of this id.
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(
                f"no benchmark of this id is remembered; the last {HISTORY} are"
            ) from None

    def cancel(self, job_id: str) -> Job:
        """Ends a job that waits or runs; one that has ended stays as it is.

        Raises:
            NotFound: There is none of this id.
        """
        job = self.get(job_id)
        if self._running and self._running[0] is job:
            self._running[1].cancel()
        if not job.ended:
            job.end("cancelled")
        return job

    def _require_place(self) -> None:
        if not self._open:
            raise NotReady("the service takes no benchmarks now")
        # Jobs that could start at once wait only for the runner to see them.
        busy = 1 if self._running else 0
        queued = sum(job.status == "queued" for job in self._jobs.values())
        if busy + queued + self._reserved > self._max_waiting:
            raise QueueFull(f"{queued} benchmarks are waiting already", {"Retry-After": "60"})

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.ended]
        for job_id in ended[: max(0, len(self._jobs) - HISTORY)]:
            del self._jobs[job_id]

    async def _run_all(self) -> None:
        while True:
            job = await self._waiting.get()
            if job.work is None:  # cancelled while it waited
                continue
            job.begin()
            task = asyncio.ensure_future(job.work(job))
            self._running = (job, task)
            await asyncio.wait({task})
            self._running = None
            self._settle(job, task)
            del job, task  # a failed job's traceback would else keep its upload until the next

    def _settle(self, job: Job, task: "asyncio.Future[Outcome]") -> None:
        if job.ended:  # cancelled; whatever the work came to, nobody waits for it
            if not task.cancelled():
                task.exception()  # seen, so that asyncio does not complain
        elif task.cancelled():
            job.end("cancelled")
        elif isinstance(error := task.exception(), Exception):
            job.end("failed", problem=_problem_of(error))
        else:
            job.end("succeeded", outcome=task.result())


def _problem_of(error: Exception) -> JobProblem:
    """Says what the owner of a job may know; logs what only the operator can mend."""
    if isinstance(error, Refusal) and not isinstance(error, InternalError):
        return JobProblem(code=error.code, detail=error.detail)
    logger.error("a benchmark failed", exc_info=error)
    return JobProblem(code=InternalError.code, detail="the service's log has more")
