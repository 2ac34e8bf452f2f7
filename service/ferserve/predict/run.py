"""Looks at files one after the other, several images or frames at a time."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ferserve.errors import Refusal
from ferserve.images import decode_image
from ferserve.predict.drawing import draw_faces
from ferserve.predict.items import Item, refusal_of_file, shown
from ferserve.predict.ordered import in_order
from ferserve.predict.sources import IMAGES, Source, target_of
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions, Recognition, StreamOptions
from ferserve.settings import Settings, usable_cpus
from ferserve.tracking import FaceTracker, SeenFace, tracked

if TYPE_CHECKING:
    from ferserve.predict.video import Picture, VideoWriter

NO_VIDEO = Refusal(
    "PyAV is not installed: pip install 'ferserve[video]'", code="video_not_supported"
)


class Predictor:
    """Answers files with a recognizer of its own.

    Args:
        settings: Which model, and the limits.
        options: What to look for.
        annotate: Folder for pictures and videos with the faces drawn in; None draws none.
        fps: Most frames of a video to look at, a second; None looks at all.
        advance: Is told after each image or frame.
        expect: Is told how many more there will be, as far as that is known.

    Raises:
        ModelError: A model cannot be served.
    """

    def __init__(
        self,
        settings: Settings,
        options: EmotionOptions,
        *,
        annotate: Path | None = None,
        fps: float | None = None,
        advance: Callable[[], object] = lambda: None,
        expect: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._annotate = annotate
        self._fps = fps
        self._advance = advance
        self._expect = expect
        self._recognizer = AsyncRecognizer(settings)
        self._at_once = 2 * usable_cpus()  # bounds the pictures in memory

    async def answer(self, sources: Iterable[Source]) -> AsyncIterator[Item]:
        """Yields what was seen: an item for each image, and for each frame of each video."""
        await self._recognizer.start()
        try:
            for is_video, group in groupby(sources, key=lambda source: source.is_video):
                if is_video:
                    for source in group:
                        async for item in self._answer_video(source):
                            yield item
                else:
                    jobs = (partial(self._answer_image, source) for source in group)
                    async for item in in_order(jobs, self._at_once):
                        self._advance()
                        yield item
        finally:
            await self._recognizer.close()

    async def _answer_image(self, source: Source) -> Item:
        try:
            data = await asyncio.to_thread(source.path.read_bytes)
            seen = await self._recognizer.answer(data, self._options)
            if self._annotate:
                await asyncio.to_thread(self._draw, self._annotate, source, data, seen)
        except Exception as error:
            return Item(shown(source.path), refusal_of_file(error))
        return Item(shown(source.path), seen)

    def _draw(self, folder: Path, source: Source, data: bytes, seen: Recognition) -> None:
        rgb = decode_image(data, self._settings.max_pixels).rgb
        known = source.path.suffix.lower() in IMAGES
        draw_faces(rgb, seen.faces).save(target_of(source, folder, "" if known else ".png"))

    async def _answer_video(self, source: Source) -> AsyncIterator[Item]:
        file = shown(source.path)
        try:
            from ferserve.predict.timeline import Timeline
            from ferserve.predict.video import VideoReader, VideoWriter
        except ModuleNotFoundError:
            yield Item(file, NO_VIDEO)
            return
        tracker = FaceTracker(StreamOptions().smoothing_seconds)
        timeline = Timeline()
        with ExitStack() as files:
            try:
                reader = files.enter_context(VideoReader(source.path, self._fps))
                self._expect(reader.length or 0)
                writer = None
                if self._annotate:
                    known = source.path.suffix.lower() == ".mp4"
                    target = target_of(source, self._annotate, "" if known else ".mp4")
                    rate = min(reader.rate, self._fps or reader.rate)
                    writer = files.enter_context(VideoWriter(target, rate))
                jobs = (partial(self._look_at, picture) for picture in reader)
                async for picture, outcome in in_order(jobs, self._at_once):
                    item = _followed(file, picture, outcome, tracker)
                    timeline.add(item)
                    if writer:
                        await asyncio.to_thread(_write, writer, picture, item)
                    self._advance()
                    yield item
                if self._annotate:
                    plot = target_of(source, self._annotate, "-emotions.png")
                    timeline.save(plot, Path(file).name)
            except (OSError, Refusal) as error:
                yield Item(file, refusal_of_file(error))

    async def _look_at(self, picture: "Picture") -> tuple["Picture", Recognition | Refusal]:
        data = await asyncio.to_thread(_bmp, picture)
        try:
            return picture, await self._recognizer.answer(data, self._options)
        except Exception as error:
            return picture, refusal_of_file(error)


def _write(writer: "VideoWriter", picture: "Picture", item: Item) -> None:
    writer.add(draw_faces(picture.rgb, item.faces), picture.seconds)


def _bmp(picture: "Picture") -> bytes:
    """The picture as a file: the recognizer takes nothing else, and BMP costs two copies."""
    file = io.BytesIO()
    Image.fromarray(picture.rgb).save(file, "BMP")
    return file.getvalue()


def _followed(
    file: str, picture: "Picture", outcome: Recognition | Refusal, tracker: FaceTracker
) -> Item:
    """Returns the item of a frame, with the faces' tracks."""
    if isinstance(outcome, Refusal):
        return Item(file, outcome, picture.number, picture.seconds)
    seen = [SeenFace(face.box, face.emotions) for face in outcome.faces]
    tracks = tracker.update(seen, picture.seconds)
    faces = tuple(tracked(face, track) for face, track in zip(outcome.faces, tracks, strict=True))
    return Item(file, outcome, picture.number, picture.seconds, faces)
