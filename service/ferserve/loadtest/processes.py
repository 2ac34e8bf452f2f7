"""Carries out a plan in several processes that begin at the same time."""

import asyncio
import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from time import monotonic, process_time

from ferserve.loadtest.generator import Generator
from ferserve.loadtest.plan import Plan
from ferserve.loadtest.samples import Measurement, Samples

HEAD_START = 0.1
"""Seconds from when all processes are ready to the start, for all of them to hear of it."""

PROGRESS_SECONDS = 0.2
"""How often progress is reported."""


class _Worker:
    """A generator process, seen from the one that started it."""

    def __init__(self, plan: Plan, index: int) -> None:
        # Not fork: the parent may have threads, whose locks a copy would hold for ever.
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_generate, args=(plan, index, other_end), daemon=True)
        self.process.start()
        other_end.close()  # so that the pipe breaks when the process ends

    def receive(self) -> "tuple[Samples, float] | None":
        """Waits for what the process has to say."""
        try:
            told: tuple[Samples, float] | None = self.pipe.recv()
        except EOFError:
            raise ChildProcessError("a generator process ended without a result") from None
        return told


def run(plan: Plan, progress: Callable[[float], None] | None = None) -> Measurement:
    """Carries out a plan.

    An interruption (Ctrl-C) ends it early; what was measured until then is returned.

    Args:
        plan: What to do.
        progress: Told now and then how many seconds of the run are over.

    Raises:
        ChildProcessError: A process ended without a result.
    """
    workers = [_Worker(plan, index) for index in range(plan.used_processes)]
    try:
        for worker in workers:
            worker.receive()
        start = monotonic() + HEAD_START
        interrupted_at = None
        try:
            for worker in workers:
                worker.pipe.send(start)
            _until_all_spoke(workers, start, progress)
        except KeyboardInterrupt:
            interrupted_at = monotonic() - start
            for worker in workers:
                worker.pipe.send(None)
        told = [answer for worker in workers if (answer := worker.receive())]
        return Measurement(
            plan,
            Samples.merge([samples for samples, _ in told]),
            tuple(share for _, share in told),
            interrupted_at,
        )
    finally:
        for worker in workers:
            worker.pipe.close()  # a process that still runs sees that and ends
        for worker in workers:
            worker.process.join()


def _until_all_spoke(
    workers: list[_Worker], start: float, progress: Callable[[float], None] | None
) -> None:
    silent = {worker.pipe for worker in workers}
    while silent:
        silent -= set(wait(list(silent), PROGRESS_SECONDS))
        if progress:
            progress(monotonic() - start)


def _generate(plan: Plan, index: int, pipe: Connection) -> None:
    """What a generator process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    generator = Generator(plan, index)
    gc.freeze()  # the collector need not look at what stays: it would make requests late
    # The parent may be gone already, and then nobody waits for what there is to say.
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        start = pipe.recv()
        before = process_time()
        samples = asyncio.run(_until_told(generator, start, pipe))
        pipe.send((samples, (process_time() - before) / (monotonic() - start)))


async def _until_told(generator: Generator, start: float, pipe: Connection) -> Samples:
    """Runs until the plan is done, or the parent says stop or closes the pipe."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), stop.set)
    try:
        return await generator.run(start, stop)
    finally:
        loop.remove_reader(pipe.fileno())
