"""DeepFace's words for our answers."""

import base64

import pytest
from ferserve.api.deepface import AnalyzeOptions, analyzed, read_image
from ferserve.errors import InvalidParameter
from ferserve.schemas import Box, EmotionOptions, FaceEmotion, Point
from pydantic import ValidationError


def asked(fields: dict) -> EmotionOptions:
    return AnalyzeOptions.model_validate(fields).emotion_options()


def face(confidence: float | None, landmarks: list[Point] | None) -> FaceEmotion:
    return FaceEmotion(
        box=Box(x=1, y=2, width=3, height=4),
        face_confidence=confidence,
        dominant_emotion="happy",
        confidence=0.75,
        emotions={"happy": 0.75, "sad": 0.25},
        warnings=[],
        landmarks=landmarks,
    )


def test_shares_become_per_cent_and_the_pictures_left_eye_the_persons_right():
    points = [Point(x=x, y=x + 0.6) for x in (10, 20, 30, 40, 50)]
    assert analyzed(face(0.9, points)).model_dump() == {
        "emotion": {"happy": 75.0, "sad": 25.0},
        "dominant_emotion": "happy",
        "region": {"x": 1, "y": 2, "w": 3, "h": 4, "left_eye": (20, 21), "right_eye": (10, 11)},
        "face_confidence": 0.9,
    }


def test_a_face_that_no_detector_found_has_no_confidence_and_no_eyes():
    result = analyzed(face(None, None))
    assert result.face_confidence == 0
    assert result.region.left_eye is result.region.right_eye is None


@pytest.mark.parametrize("actions", [["emotion"], "emotion", '["emotion"]', "('emotion',)"])
def test_actions_are_read_in_every_spelling(actions):
    assert AnalyzeOptions(actions=actions).actions == ["emotion"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"actions": ["age", "emotion"]}, "not age"),
        ({"actions": "[age, race]"}, "not age, race"),
        ({"actions": []}, "not nothing"),
        ({"anti_spoofing": True}, "anti_spoofing"),
        ({"anti_spoofing": "true"}, "anti_spoofing"),
    ],
)
def test_what_is_not_offered_is_refused(fields, reason):
    with pytest.raises(InvalidParameter, match=reason):
        asked(fields)


def test_a_list_without_end_is_refused():
    with pytest.raises(ValidationError, match="more than 1000 characters"):
        asked({"actions": 9999 * "emotion "})


def test_options_of_forms_are_text():
    options = AnalyzeOptions.model_validate({"enforce_detection": "false", "align": "true"})
    assert options.enforce_detection is False
    assert options.emotion_options().detect == "auto"
    assert asked({"detector_backend": "skip"}).detect == "false"


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.org/me.jpg",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "img1.jpg",
        b"/etc/passwd",
    ],
)
def test_addresses_and_paths_are_not_opened(reference):
    with pytest.raises(InvalidParameter, match="request forgery"):
        read_image([reference])


def test_text_is_told_from_files(photo, grey_crop):
    assert read_image([b"data:image/png;base64,iVBO\n"]) == base64.b64decode("iVBO")
    for data in (grey_crop, photo("coffee", format="JPEG"), photo("coffee", format="WEBP")):
        assert read_image([data]) == data
