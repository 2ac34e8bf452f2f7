"""DeepFace's words for our answers."""

import pytest
from ferserve.deepface import (
    AnalyzeOptions,
    AnalyzeResponse,
    is_text,
    require_data_uri,
    require_faces,
)
from ferserve.errors import InvalidParameter, NoFace
from ferserve.schemas import (
    Box,
    FaceEmotion,
    ImageInfo,
    ModelReference,
    Point,
    Recognition,
    Timing,
)
from pydantic import ValidationError


def options_of(fields: dict) -> AnalyzeOptions:
    return AnalyzeOptions.model_validate(fields).require_supported()


def recognition(*faces: FaceEmotion) -> Recognition:
    return Recognition(
        model=ModelReference(name="model", version="1", sha256="0"),
        image=ImageInfo(width=500, height=100, format="JPEG", exif_orientation=1),
        faces=list(faces),
        timing_ms=Timing(decode=0, detect=0, queue=0, inference=0, total=0),
    )


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
    (result,) = AnalyzeResponse.of(recognition(face(0.9, points))).model_dump()["results"]
    assert result == {
        "emotion": {"happy": 75.0, "sad": 25.0},
        "dominant_emotion": "happy",
        "region": {"x": 1, "y": 2, "w": 3, "h": 4, "left_eye": (20, 21), "right_eye": (10, 11)},
        "face_confidence": 0.9,
    }


def test_a_face_that_no_detector_found_has_no_confidence_and_no_eyes():
    (result,) = AnalyzeResponse.of(recognition(face(None, None))).results
    assert result.face_confidence == 0
    assert result.region.left_eye is result.region.right_eye is None


def test_no_face_is_an_error_in_deepfaces_words():
    with pytest.raises(NoFace, match="Face could not be detected"):
        require_faces(recognition())


@pytest.mark.parametrize("actions", [["emotion"], "emotion", '["emotion"]', "('emotion',)"])
def test_actions_are_read_in_every_spelling(actions):
    assert options_of({"actions": actions}).actions == ["emotion"]


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
        options_of(fields)


def test_a_list_without_end_is_refused():
    with pytest.raises(ValidationError, match="more than 1000 characters"):
        options_of({"actions": 9999 * "emotion "})


def test_options_of_forms_are_text():
    options = options_of({"enforce_detection": "false", "align": "true"})
    assert options.enforce_detection is False
    assert options.emotion_options().detect == "auto"
    assert options_of({"detector_backend": "skip"}).emotion_options().detect == "false"


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.org/me.jpg",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "img1.jpg",
        "",
    ],
)
def test_addresses_and_paths_are_not_opened(reference):
    with pytest.raises(InvalidParameter, match="request forgery"):
        require_data_uri(reference)


def test_text_is_told_from_files(photo, grey_crop):
    assert is_text(b"data:image/png;base64,iVBO\n")
    assert is_text(b"/etc/passwd")
    for data in (grey_crop, photo("coffee", format="JPEG"), photo("coffee", format="WEBP")):
        assert not is_text(data)
