"""Video files in and out, with PyAV; needs the extra ``video``."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from ferserve.errors import Refusal

CODEC = "libx264"
TIME_BASE = Fraction(1, 90_000)
"""That of MPEG: every usual frame rate is a whole number of these."""


EARLY = 0.002
"""Seconds by which a frame may come before its interval: containers round times, cameras jitter."""


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A frame of a video.

    Attributes:
        number: From 1, of all frames of the video.
        seconds: From the video's first frame.
        rgb: uint8 ``[height, width, 3]``, upright.
    """

    number: int
    seconds: float
    rgb: NDArray[np.uint8]


class VideoReader:
    """The pictures of a video file.

    Args:
        path: The file.
        fps: Most pictures a second to return, one of each interval; None returns all.

    Raises:
        OSError: The file cannot be read.
        Refusal: It is no video.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self._fps = fps
        self._file = path.open("rb")  # FFmpeg takes many a name for an address, and would ask there
        try:
            self._container = av.open(self._file, "r")
        except av.FFmpegError as error:
            self._file.close()
            raise Refusal(f"it is no video: {error.strerror}", code="undecodable_video") from error
        if not self._container.streams.video:
            kinds: set[str] = {stream.type for stream in self._container.streams}
            self._close()
            raise Refusal(_without_pictures(kinds), code="undecodable_video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._container.close()
        self._file.close()

    @property
    def rate(self) -> float:
        """Frames a second, as the file says; 25 where it does not."""
        return float(self._stream.average_rate or 25)

    @property
    def length(self) -> int | None:
        """About how many pictures there are to return; None where the file does not say."""
        duration = self._container.duration  # microseconds
        if duration is None:
            return None
        rate = min(self.rate, self._fps) if self._fps else self.rate
        return max(1, round(duration / av.time_base * rate))

    def __iter__(self) -> Iterator[Picture]:
        """Decodes one picture after the other.

        Raises:
            Refusal: The file is damaged from here on.
        """
        first: float | None = None
        last = -1
        try:
            for index, frame in enumerate(self._container.decode(self._stream)):
                time = index / self.rate if frame.time is None else float(frame.time)
                first = time if first is None else first
                seconds = time - first
                interval = math.floor((seconds + EARLY) * self._fps) if self._fps else index
                if interval > last:
                    last = interval
                    yield Picture(index + 1, seconds, _upright(frame))
        except av.FFmpegError as error:
            raise Refusal(
                f"the video is damaged: {error.strerror}", code="undecodable_video"
            ) from error


class VideoWriter:
    """Writes pictures into an MP4 file, without sound.

    Args:
        path: The file.
        rate: Pictures a second, for players that ask.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._container = av.open(str(path), "w")
        exact_rate = Fraction(rate).limit_denominator(1001)
        stream = cast("VideoStream", self._container.add_stream(CODEC, rate=exact_rate))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        self._stream = stream
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._begun and error is None:
            self._container.mux(self._stream.encode())  # what the encoder still holds
        self._container.close()

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Appends a picture.

        Args:
            picture: RGB; one of another size than the first is scaled to it.
            seconds: From the first picture; more than before.
        """
        if not self._begun:
            width, height = picture.size
            self._stream.width = width - width % 2  # the codec wants even sides
            self._stream.height = height - height % 2
            self._begun = True
        frame = VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = frame.reformat(width=self._stream.width, height=self._stream.height)
        frame.pts = round(seconds / TIME_BASE)
        frame.time_base = TIME_BASE
        self._container.mux(self._stream.encode(frame))


def _without_pictures(kinds: set[str]) -> str:
    if not kinds:
        return "the container is empty: it has no track"
    if kinds == {"audio"}:
        return "it has sound, but no pictures"
    return f"it has no pictures, only: {', '.join(sorted(kinds))}"


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    rgb = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    return turned(rgb, frame.rotation)


def turned(rgb: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Turns a picture against the clock by the nearest quarter turns: phones lie on their side."""
    return np.ascontiguousarray(np.rot90(rgb, round(degrees / 90)))
