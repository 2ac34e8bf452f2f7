"""Video files in and out, with PyAV; needs the extra ``video``."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from ferserve.errors import Refusal

TIME_BASE = Fraction(1, 90_000)
"""That of MPEG: every usual frame rate is a whole number of these."""

EARLY = 0.002
"""Seconds by which a frame may come before its interval: containers round times, cameras jitter."""


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A frame: its number, from 1, and seconds, from the first, in the whole video.

    ``rgb`` are its pixels, uint8 ``[height, width, 3]``, upright.
    """

    number: int
    seconds: float
    rgb: NDArray[np.uint8]


@contextmanager
def read_video(path: Path, fps: float | None = None) -> Iterator[Iterator[Picture]]:
    """Opens a video file, of which at most ``fps`` pictures a second are yielded.

    Raises:
        OSError: The file cannot be read.
        Refusal: It is not a video; or, of the pictures, the file is damaged.
    """
    with path.open("rb") as file:  # FFmpeg takes many a name for an address, and would ask there
        try:
            container = av.open(file, "r")
        except av.FFmpegError as error:
            raise Refusal(f"not a video: {error.strerror}", code="undecodable_video") from error
        with container:
            if not container.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in container.streams}))
                why = f"no pictures, only {kinds}" if kinds else "no track: the container is empty"
                raise Refusal(f"it has {why}", code="undecodable_video")
            yield _pictures(container, fps)


def _pictures(container: InputContainer, fps: float | None) -> Iterator[Picture]:
    stream = container.streams.video[0]
    rate = float(stream.average_rate or 25)
    shape = stream.sample_aspect_ratio or 1  # of a pixel; those of DVDs are not square
    stream.thread_type = "AUTO"
    first: float | None = None
    seconds, last = 0.0, -1
    try:
        for index, frame in enumerate(container.decode(stream)):
            time = index / rate if frame.time is None else float(frame.time)
            first = time if first is None else first
            if time - first < seconds:  # files that were joined may begin anew
                first = time - seconds - 1 / rate
            seconds = time - first
            interval = math.floor((seconds + EARLY) * fps) if fps else index
            if interval > last:
                last = interval
                square = frame.reformat(width=round(frame.width * shape), format="rgb24")
                rgb = cast("NDArray[np.uint8]", square.to_ndarray())
                yield Picture(index + 1, seconds, turned(rgb, frame.rotation))
        if first is None:
            raise Refusal("it has no pictures, only a track for them", code="undecodable_video")
    except av.FFmpegError as error:
        raise Refusal(
            f"the video is damaged: {error.strerror}", code="undecodable_video"
        ) from error


@contextmanager
def write_video(path: Path) -> Iterator[Callable[[Image.Image, float], None]]:
    """Writes an MP4 file without sound.

    Yields:
        A function that appends an RGB picture, at seconds from the first that never fall. One of
        another size than the first is scaled to it.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264")
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        begun, last = False, -1

        def add(picture: Image.Image, seconds: float) -> None:
            nonlocal begun, last
            if not begun:  # the codec wants even sides
                stream.width, stream.height = (side - side % 2 for side in picture.size)
                begun = True
            frame = VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height)
            # Two frames may have one time, which an MP4 file does not take.
            frame.pts = last = max(last + 1, round(seconds / TIME_BASE))
            frame.time_base = TIME_BASE
            container.mux(stream.encode(frame))

        yield add
        if begun:
            container.mux(stream.encode())  # what the encoder still holds


def turned(rgb: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Turns a picture against the clock by the nearest quarter turns: phones lie on their side."""
    return np.ascontiguousarray(np.rot90(rgb, round(degrees / 90)))
