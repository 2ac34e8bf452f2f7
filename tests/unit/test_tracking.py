"""Which face is which, and how its emotions are smoothed."""

import math

import pytest
from ferserve.schemas import Box, FaceEmotion
from ferserve.tracking import (
    MAX_ABSENCE,
    MIN_OVERLAP,
    SEARCH_SECONDS,
    FaceTracker,
    match,
    overlap,
    smooth,
)
from hypothesis import given
from hypothesis import strategies as st

BOXES = st.builds(
    Box,
    x=st.integers(0, 60),
    y=st.integers(0, 60),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
)
PROBABILITIES = st.floats(0, 1)
FACES = st.lists(
    st.builds(
        FaceEmotion.model_construct,
        box=BOXES,
        emotions=st.fixed_dictionaries({"happy": PROBABILITIES}),
    )
)
PAUSES = st.floats(0, 3 * MAX_ABSENCE)


def box(x: int, y: int = 0, side: int = 100) -> Box:
    return Box(x=x, y=y, width=side, height=side)


def face(x: int, y: int = 0, **emotions: float) -> FaceEmotion:
    return FaceEmotion.model_construct(box=box(x, y), emotions=emotions or {"happy": 1.0})


def numbers(tracker: FaceTracker, faces: list[FaceEmotion], at: float) -> list[int]:
    return [track.number for track in tracker.update(faces, at)]


# Overlap


def test_the_overlap_is_the_intersection_over_the_union():
    assert overlap(box(0), box(50)) == 50 * 100 / (150 * 100)
    assert overlap(box(0), box(100)) == 0  # they touch


@given(BOXES, BOXES)
def test_the_overlap_is_symmetric_and_1_for_equal_boxes_only(first, second):
    assert overlap(first, second) == overlap(second, first)
    assert 0 <= overlap(first, second) <= 1
    assert (overlap(first, second) == 1) == (first == second)


# Matching


@given(st.lists(BOXES), st.lists(BOXES))
def test_each_box_has_one_partner_at_most_and_no_two_that_fit_stay_alone(before, now):
    partner = match(before, now)
    assert len(set(partner.values())) == len(partner)
    for new, old in partner.items():
        assert overlap(before[old], now[new]) >= MIN_OVERLAP
    for old in set(range(len(before))) - set(partner.values()):
        for new in set(range(len(now))) - set(partner):
            assert overlap(before[old], now[new]) < MIN_OVERLAP


def test_those_that_overlap_most_are_matched_first():
    assert match([box(0), box(30)], [box(25), box(60)]) == {0: 1}
    assert match([box(0), box(30)], [box(25), box(-10)]) == {0: 1, 1: 0}


# Tracks


def test_a_face_that_moves_keeps_its_number():
    tracker = FaceTracker(0)
    assert [numbers(tracker, [face(40 * step)], step / 10) for step in range(10)] == [[1]] * 10


def test_faces_that_change_their_order_keep_their_numbers():
    tracker = FaceTracker(0)
    assert numbers(tracker, [face(0), face(300)], 0) == [1, 2]
    assert numbers(tracker, [face(310), face(10)], 0.1) == [2, 1]


def test_a_face_elsewhere_is_another():
    tracker = FaceTracker(0)
    assert numbers(tracker, [face(0)], 0) == [1]
    assert numbers(tracker, [face(300)], 0.1) == [2]


def test_a_face_that_is_missed_for_a_moment_keeps_its_number():
    tracker = FaceTracker(0)
    tracker.update([face(0), face(300)], 0)
    tracker.update([face(300)], MAX_ABSENCE / 2)
    assert numbers(tracker, [face(0), face(300)], MAX_ABSENCE) == [1, 2]


def test_a_face_that_was_away_for_longer_gets_a_new_number():
    tracker = FaceTracker(0)
    tracker.update([face(0)], 0)
    tracker.update([], MAX_ABSENCE)
    assert numbers(tracker, [face(0)], MAX_ABSENCE + 0.1) == [2]


def test_frames_may_come_slowly():
    tracker = FaceTracker(0)
    assert [numbers(tracker, [face(0)], 10 * MAX_ABSENCE * step) for step in range(3)] == [[1]] * 3


def test_a_search_whose_frame_was_refused_is_made_up_for():
    tracker, late = FaceTracker(0), SEARCH_SECONDS
    assert tracker.near(0) == []
    tracker.update([face(0)], 0)
    assert tracker.near(late - 0.1) == [box(0)]
    assert tracker.near(late) == []  # of this frame nothing is seen
    assert tracker.near(late + 0.1) == []
    tracker.update([face(0)], late + 0.1)
    assert tracker.near(late + 0.2) == [box(0)]


@given(st.lists(st.tuples(FACES, PAUSES), max_size=8))
def test_no_number_stands_for_two_faces(frames):
    tracker, now, highest = FaceTracker(0.5), 0.0, 0
    for faces, pause in frames:
        now += pause
        given_ = numbers(tracker, faces, now)
        assert len(set(given_)) == len(faces)
        fresh = sorted(number for number in given_ if number > highest)
        assert fresh == list(range(highest + 1, highest + 1 + len(fresh)))
        highest += len(fresh)


# Smoothing


@given(
    st.lists(st.tuples(PROBABILITIES, st.floats(0, 0.99 * MAX_ABSENCE)), min_size=1, max_size=20),
    st.floats(0.01, 10),
)
def test_smoothing_weighs_each_value_by_its_age(values, time_constant):
    """The definition: a value counts from its frame to the next, less by exp(-age / constant)."""
    tracker, now, times = FaceTracker(time_constant), 0.0, []
    for value, pause in values:
        now += pause
        times.append(now)
        (track,) = tracker.update([face(0, happy=value)], now)

    def left(time: float) -> float:
        return math.exp(-(now - time) / time_constant)

    expected = values[0][0] * left(times[0]) + sum(
        value * (left(time) - left(before))
        for (value, _), before, time in zip(values[1:], times, times[1:], strict=False)
    )
    assert track.emotions["happy"] == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 50))
def test_the_number_of_frames_does_not_matter(frames):
    value = 0.0
    for _ in range(frames):
        value = smooth(value, 1.0, 2.0 / frames, time_constant=2.0)
    assert value == pytest.approx(1 - 1 / math.e)


@given(PROBABILITIES, PROBABILITIES, PAUSES, st.floats(0, 10))
def test_the_result_lies_between_the_values(before, now, seconds, time_constant):
    result = smooth(before, now, seconds, time_constant)
    slack = 1e-12
    assert min(before, now) - slack <= result <= max(before, now) + slack
    assert 0 <= result <= 1


def test_smoothed_probabilities_sum_to_1():
    tracker = FaceTracker(0.5)
    tracker.update([face(0, happy=0.7, sad=0.3)], 0)
    (track,) = tracker.update([face(0, happy=0.1, sad=0.9)], 0.2)
    assert sum(track.emotions.values()) == pytest.approx(1)
    assert 0.1 < track.emotions["happy"] < 0.7


def test_without_a_time_constant_nothing_is_smoothed():
    tracker = FaceTracker(0)
    tracker.update([face(0, happy=0.7)], 0)
    (track,) = tracker.update([face(0, happy=0.1)], 0)
    assert track.emotions == {"happy": 0.1}
