"""Which face of a frame is which of the frame before, and its emotions smoothed over time.

Knows neither HTTP nor images: boxes, probabilities and times in; track numbers and means out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from ferserve.schemas import Box, FaceEmotion, Recognition, TrackedFace

MIN_OVERLAP = 0.3
"""Intersection over union at which two boxes of consecutive frames are one face, as in SORT
(Bewley et al.: "Simple Online and Realtime Tracking", 2016)."""

MAX_ABSENCE = 1.0
"""Seconds after which a face that frames do not show is forgotten: the detector may miss one now
and then, but a box says nothing about who stands there later."""

SEARCH_SECONDS = 0.8
"""After this long a whole frame is searched again: from 5 frames a second on, a new face is seen
within a second."""

MAX_ABSENT = 64
"""Most faces remembered that the last frame did not show: bounds the work for pictures made to
show other faces each time."""


@dataclass(frozen=True, slots=True)
class Track:
    """A face over the frames up to now: when and where it was seen, its smoothed probabilities."""

    number: int  # from 1; none is used twice
    box: Box
    emotions: dict[str, float]
    seen_at: float


class FaceTracker:
    """Follows faces by the overlap of their boxes; of one stream, for one thread."""

    def __init__(self, smoothing_seconds: float) -> None:
        self._smoothing_seconds = smoothing_seconds
        self._tracks: list[Track] = []
        self._last_frame = self._searched_at = -math.inf
        self._searches = False
        self._numbers = count(1)

    def near(self, at: float) -> list[Box]:
        """Returns where the next frame's faces are likely; if empty, search all of it."""
        seen = [track.box for track in self._tracks if track.seen_at == self._last_frame]
        self._searches = not seen or at >= self._searched_at + SEARCH_SECONDS
        return [] if self._searches else seen

    def update(self, faces: Sequence[FaceEmotion], at: float) -> list[Track]:
        """Takes the faces of the next frame, and returns the track of each, in their order.

        ``at`` says when the frame was taken, in seconds; never less than before.
        """
        known = [
            track
            for track in self._tracks
            if track.seen_at == self._last_frame or at - track.seen_at <= MAX_ABSENCE
        ]
        partner = match([track.box for track in known], [face.box for face in faces])
        seen = [
            self._follow(known[partner[index]], face, at)
            if index in partner
            else Track(next(self._numbers), face.box, dict(face.emotions), at)
            for index, face in enumerate(faces)
        ]
        matched = set(partner.values())
        absent = [track for index, track in enumerate(known) if index not in matched]
        self._tracks = seen + absent[:MAX_ABSENT]  # the last seen stand first
        self._last_frame = at
        if self._searches:  # noted only now: a frame that is refused was not searched
            self._searched_at = at
        return seen

    def track_faces(self, seen: Recognition, at: float) -> Recognition:
        """Returns what is seen in the next frame with tracked faces; as ``update``."""
        tracks = self.update(seen.faces, at)
        faces = [_tracked(face, track) for face, track in zip(seen.faces, tracks, strict=True)]
        return seen.model_copy(update={"faces": faces})

    def _follow(self, track: Track, face: FaceEmotion, at: float) -> Track:
        emotions = {
            name: smooth(track.emotions[name], value, at - track.seen_at, self._smoothing_seconds)
            for name, value in face.emotions.items()
        }
        return Track(track.number, face.box, emotions, at)


def _tracked(face: FaceEmotion, track: Track) -> TrackedFace:
    """Returns a face as the API shows it in a stream."""
    known = {name: getattr(face, name) for name in face.model_fields_set}
    return TrackedFace(**known, track=track.number, emotions_smoothed=track.emotions)


def smooth(before: float, now: float, seconds: float, time_constant: float) -> float:
    """Exponential smoothing of values that come at any intervals.

    After a jump the result has covered ``1 - exp(-seconds / time_constant)`` of the way, 63 % after
    one time constant, however many values came meanwhile. A constant of 0 smooths nothing.
    """
    share = -math.expm1(-seconds / time_constant) if time_constant > 0 else 1.0
    # Written so, unlike as before + share * (now - before), no rounding leads out of 0..1.
    return (1 - share) * before + share * now


def match(before: Sequence[Box], now: Sequence[Box]) -> dict[int, int]:
    """Pairs the boxes of two frames, those that overlap most first: index before by index now.

    Greedy: faces hardly ever overlap each other so much that the order of choice matters.
    """
    overlaps = sorted(
        (-overlap(old, new), old_index, new_index)
        for old_index, old in enumerate(before)
        for new_index, new in enumerate(now)
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for negative, old_index, new_index in overlaps:
        if -negative < MIN_OVERLAP:
            break
        if old_index not in taken and new_index not in partner:
            taken.add(old_index)
            partner[new_index] = old_index
    return partner


def overlap(first: Box, second: Box) -> float:
    """Returns the intersection of two boxes over their union, 0..1."""
    width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (first.width * first.height + second.width * second.height - common)
