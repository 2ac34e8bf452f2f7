"""Looks at files one after the other, several images or frames at a time."""

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from ferserve.errors import Refusal
from ferserve.images import decode_image
from ferserve.predict.outputs import Item, draw_faces, refusal_of_file, shown
from ferserve.predict.sources import Source, target_of
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions, Recognition, StreamOptions
from ferserve.settings import usable_cpus
from ferserve.tracking import FaceTracker

if TYPE_CHECKING:
    from ferserve.predict.video import Picture

T = TypeVar("T")

AT_ONCE = 2 * usable_cpus()
"""Bounds the pictures in memory."""

NO_VIDEO = Refusal(
    "PyAV is not installed: pip install 'ferserve[video]'", code="video_not_supported"
)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Answers files, by a recognizer that is started for each call of ``answer``.

    Pictures and videos with the faces drawn in go to the folder ``annotate``. Of a video at most
    ``fps`` frames a second are looked at.
    """

    recognizer: AsyncRecognizer
    options: EmotionOptions
    annotate: Path | None
    fps: float | None
    drawing: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, 2))

    async def answer(self, sources: Iterable[Source]) -> AsyncIterator[Item]:
        """Yields what was seen: an item for each image, and for each frame of each video."""
        async with self.recognizer:
            for is_video, group in groupby(sources, key=lambda source: source.is_video):
                if is_video:
                    for source in group:
                        async for item in self._answer_video(source):
                            yield item
                else:
                    jobs = (partial(self._answer_image, source) for source in group)
                    async for item in in_order(jobs, AT_ONCE):
                        yield item

    async def _answer_image(self, source: Source) -> Item:
        try:
            data = await asyncio.to_thread(source.path.read_bytes)
            seen = await self.recognizer.answer(data, self.options)
            if self.annotate:
                async with self.drawing:  # takes all pixels of a picture
                    await asyncio.to_thread(self._draw, self.annotate, source, data, seen)
        except Exception as error:
            return Item(shown(source.path), refusal_of_file(error))
        return Item(shown(source.path), seen)

    def _draw(self, folder: Path, source: Source, data: bytes, seen: Recognition) -> None:
        rgb = decode_image(data, self.recognizer.settings.max_pixels).rgb
        draw_faces(rgb, seen.faces).save(target_of(source, folder))

    async def _answer_video(self, source: Source) -> AsyncIterator[Item]:
        file = shown(source.path)
        try:
            from ferserve.predict.video import read_video, write_video
        except ModuleNotFoundError:
            yield Item(file, NO_VIDEO)
            return
        tracker = FaceTracker(StreamOptions().smoothing_seconds)
        with ExitStack() as files:
            try:
                pictures = files.enter_context(read_video(source.path, self.fps))
                draw = None
                if self.annotate:
                    draw = files.enter_context(write_video(target_of(source, self.annotate)))
                jobs = (partial(self._look_at, picture) for picture in pictures)
                async for picture, outcome in in_order(jobs, AT_ONCE):
                    if isinstance(outcome, Recognition):
                        outcome = tracker.track_faces(outcome, picture.seconds)
                    item = Item(file, outcome, picture.number, picture.seconds)
                    if draw:
                        drawn = await asyncio.to_thread(draw_faces, picture.rgb, item.faces)
                        await asyncio.to_thread(draw, drawn, picture.seconds)
                    yield item
            except (OSError, Refusal) as error:
                yield Item(file, refusal_of_file(error))

    async def _look_at(self, picture: "Picture") -> tuple["Picture", Recognition | Refusal]:
        data = await asyncio.to_thread(_bmp, picture)
        try:
            return picture, await self.recognizer.answer(data, self.options)
        except Exception as error:
            return picture, refusal_of_file(error)


async def in_order(
    jobs: Iterable[Callable[[], Coroutine[Any, Any, T]]], at_once: int
) -> AsyncIterator[T]:
    """Runs jobs, at most ``at_once`` of them begun and not yet yielded; yields in order.

    What iterating ``jobs`` raises comes after the results of the jobs before it.
    """
    under_way: deque[asyncio.Task[T]] = deque()
    fault: Exception | None = None
    try:
        try:
            for job in jobs:
                under_way.append(asyncio.create_task(job()))
                await asyncio.sleep(0)  # lets it begin before the next one is made
                if len(under_way) == at_once:
                    yield await under_way.popleft()
        except Exception as error:
            fault = error
        while under_way:
            yield await under_way.popleft()
        if fault:
            raise fault
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _bmp(picture: "Picture") -> bytes:
    """The picture as a file: the recognizer takes nothing else, and BMP costs two copies."""
    file = io.BytesIO()
    Image.fromarray(picture.rgb).save(file, "BMP")
    return file.getvalue()
