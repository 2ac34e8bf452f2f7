"""The methods that recognizers in this process and clients of a service share.

The blocking classes run the asynchronous ones on an event loop in a thread of their own.
"""

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
)
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial, wraps
from operator import length_hint
from threading import Event, Thread, current_thread
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from anyio import to_thread
from numpy import ndarray
from PIL.Image import Image

from ferserve.errors import without_frames
from ferserve.inputs import ImageInput, as_bytes
from ferserve.schemas import ModelList, Recognition, RecognizeOptions

CLEAN_UP_SECONDS = 5.0
"""How long an interrupted call may take to end what it began, such as a benchmark."""

P = ParamSpec("P")
T = TypeVar("T")
Seen = TypeVar("Seen", bound=Recognition)


class AsyncInterface(ABC, Generic[Seen]):
    """Finds faces and rates their expressions; for programs with an event loop."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Makes ready; ``async with`` does so."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of everything; ``async with`` does so."""

    @abstractmethod
    async def models(self) -> ModelList:
        """Returns the cards of the models, and the name of the default one.

        Raises:
            Refusal: The service refused.
            httpx.TransportError: It could not be reached.
        """

    async def recognize(self, image: ImageInput, **options: Unpack[RecognizeOptions]) -> Seen:
        """Finds the faces of an image and how their expressions appear.

        Args:
            image: A path, a file's bytes, a Pillow image, or pixels uint8 ``[height, width]`` or
                ``[height, width, 3]`` (RGB).
            options: ``model``, ``detect``, ``max_faces``, ``min_face_confidence``, ``landmarks``
                as in ``/v1/emotion``.

        Raises:
            Refusal: A subclass: it is not an image, an option is wrong, or too much is asked.
            OSError: The file cannot be read.
            ValueError: The array holds no pixels.
            httpx.TransportError: The service could not be reached.
        """
        data = image if isinstance(image, bytes) else await asyncio.to_thread(as_bytes, image)
        return await self._recognize_file(data, options)

    @abstractmethod
    async def _recognize_file(self, data: bytes, options: RecognizeOptions) -> Seen: ...

    async def recognize_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        progress: Callable[[int, int | None], object] | None = None,
        **options: Unpack[RecognizeOptions],
    ) -> list[Seen | Exception]:
        """Answers many images, in order: each with its answer or with what went wrong.

        Args:
            images: Taken as there is room for them, so they may be more than fit in memory.
            concurrency: Most images under way.
            progress: Is told after each image how many are done, and of how many where that is
                known; from the event loop's thread.
            options: As for ``recognize``.
        """
        total = length_hint(images) or None  # len() fails where tqdm wraps a generator
        places = asyncio.Semaphore(max(1, concurrency))
        done = 0

        async def answer(image: ImageInput) -> Seen | Exception:
            nonlocal done
            try:
                return await self.recognize(image, **options)
            except Exception as error:
                return without_frames(error)
            finally:
                places.release()
                done += 1
                if progress:
                    with _exits_packed():
                        progress(done, total)

        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                async for image in each(images):
                    await places.acquire()
                    if isinstance(image, Image | ndarray):  # sources may reuse it for the next one
                        with suppress(Exception):  # to be told in its turn
                            image = await asyncio.to_thread(image.copy)
                    tasks.append(group.create_task(answer(image)))
        except BaseExceptionGroup as errors:  # of the caller's iterable, or of progress
            raise _first(errors) from None
        return [task.result() for task in tasks]


Asynchronous = TypeVar("Asynchronous", bound=AsyncInterface[Any], covariant=True)


def waits(
    method: Callable[Concatenate[Asynchronous, P], Awaitable[T]],
) -> Callable[Concatenate["Interface[Asynchronous]", P], T]:
    """Makes the blocking form of an asynchronous method: same arguments, result and errors."""

    @wraps(method)
    def wait(interface: "Interface[Asynchronous]", /, *args: P.args, **kwargs: P.kwargs) -> T:
        # By name: a subclass has its own.
        ask: Callable[P, Awaitable[T]] = getattr(interface._asynchronous, method.__name__)
        return interface._wait(lambda: ask(*args, **kwargs))

    return wait


class Interface(Generic[Asynchronous]):
    """Finds faces and rates their expressions; any number of threads may ask at once.

    Args:
        asynchronous: Does the work.
    """

    def __init__(self, asynchronous: Asynchronous) -> None:
        self._asynchronous = asynchronous
        started: Future[asyncio.AbstractEventLoop] = Future()
        over = asyncio.Event()

        async def live() -> None:
            try:
                async with asynchronous:
                    started.set_result(asyncio.get_running_loop())
                    await over.wait()
            except Exception as error:
                started.set_exception(error)  # which raises where it had started, and shows both

        def end() -> None:
            if thread.is_alive():  # after a fork it is not in this process
                loop.call_soon_threadsafe(over.set)
                if thread is not current_thread():  # whose garbage collection may end it
                    thread.join()

        self._thread = thread = Thread(target=lambda: asyncio.run(live()), daemon=True)
        thread.start()
        self._loop = loop = started.result()
        # What is dropped ends, too; and all does before the interpreter stops the thread.
        self._end = weakref.finalize(self, end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of everything; ``with`` does so."""
        self._end()

    models = waits(AsyncInterface.models)
    recognize = waits(AsyncInterface.recognize)
    recognize_many = waits(AsyncInterface.recognize_many)

    def _wait(self, work: Callable[[], Awaitable[T]]) -> T:
        if current_thread() is self._thread:  # the loop would wait for itself
            raise RuntimeError("a blocking call from a callback of the same object")
        if not self._thread.is_alive():
            raise RuntimeError("made before a fork, or closed: each process needs its own object")
        ended = Event()
        tasks: list[asyncio.Task[T]] = []

        async def run() -> T:
            with _exits_packed():
                return await work()

        def begin() -> None:
            tasks.append(self._loop.create_task(run()))
            tasks[0].add_done_callback(lambda _: ended.set())

        try:
            self._loop.call_soon_threadsafe(begin)
            while not ended.wait(1) and self._thread.is_alive():
                pass  # a loop that ends drops what comes last
        except KeyboardInterrupt:  # perhaps before the call above has returned
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            ended.wait(CLEAN_UP_SECONDS)
            raise
        if not tasks or not tasks[0].done() or tasks[0].cancelled():
            raise RuntimeError("closed by another thread during the call")
        task = tasks.pop()
        try:
            return task.result()
        except BaseExceptionGroup as packed:
            raise _first(packed) from None
        finally:
            del task  # an error holds this frame, which would hold the task and so the error


@contextmanager
def _exits_packed() -> Iterator[None]:
    """Packs what ends a program, such as SystemExit: raised in a task it ends the loop, too."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as leaving:
        raise BaseExceptionGroup("the program is to end", [leaving]) from None


def _first(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yields items one by one; an iterable that may block is asked in a thread."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    elif isinstance(items, Collection):
        for item in items:
            yield item
    else:
        iterator, end = iter(items), object()
        # A caller that leaves need not wait for a silent source.
        ask = partial(to_thread.run_sync, next, iterator, end, abandon_on_cancel=True)
        while (found := await ask()) is not end:
            yield found  # type: ignore[misc]
