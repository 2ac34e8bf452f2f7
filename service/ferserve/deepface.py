"""DeepFace's ``/analyze``: its request to ours, our answer to its. Knows no HTTP.

The shapes are those of the API server that comes with the Python package ``deepface`` (0.0.9x).
"""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

from ferserve.errors import InvalidParameter, NoFace
from ferserve.schemas import EmotionOptions, FaceEmotion, Point, ProblemDetails, Recognition

PATH = "/analyze"

SKIP = "skip"
"""DeepFace's detector that takes the whole image as one face."""

_TEXT = re.compile(rb"[\x20-\x7e]{1,2048}")
"""What may be an address or a path; no image file is printable ASCII."""

_NO_REFERENCES = (
    "img: send the image itself, as a file or as a base64 data URI (data:image/jpeg;base64,…). "
    "Addresses and paths are not opened: callers could make the service read what only it can "
    "reach (server-side request forgery)"
)


_MAX_ACTIONS = 1000
"""Most characters of such a list: each word becomes an object."""

_NO_EFFECT = "Changes nothing: the crop is the one the networks were trained for."


def _split(actions: object) -> object:
    """Forms carry the list as text, in any of Python's and JSON's spellings."""
    if not isinstance(actions, str):
        return actions
    if len(actions) > _MAX_ACTIONS:
        raise ValueError(f"has more than {_MAX_ACTIONS} characters")
    return re.findall(r"\w+", actions)


class AnalyzeOptions(BaseModel):
    """What a DeepFace client asks for."""

    model_config = ConfigDict(extra="forbid")

    actions: Annotated[list[str], BeforeValidator(_split)] = Field(
        default=["emotion"], description="Only `emotion`."
    )
    enforce_detection: bool = Field(
        default=True,
        description="Whether an image without a face is an error; else the whole image is taken as "
        "one face, with a `face_confidence` of 0.",
    )
    detector_backend: str = Field(
        default="opencv",
        description="`skip` takes the whole image as one face; any other name means the service's "
        "own detector.",
    )
    anti_spoofing: bool = Field(default=False, description="Only `false`.")
    align: bool = Field(default=True, description=_NO_EFFECT)
    expand_percentage: int = Field(default=0, description=_NO_EFFECT)
    silent: bool = Field(default=False, description=_NO_EFFECT)

    def require_supported(self) -> Self:
        """Returns the options.

        Raises:
            InvalidParameter: They ask for more than the emotions.
        """
        others = sorted(set(self.actions) - {"emotion"})
        if others or not self.actions:
            raise InvalidParameter(
                f"actions: only emotion is offered, not {', '.join(others)[:200] or 'nothing'}; "
                "the service estimates no age, gender or race"
            )
        if self.anti_spoofing:
            raise InvalidParameter("anti_spoofing: the service cannot tell a photo from a person")
        return self

    def emotion_options(self) -> EmotionOptions:
        """Returns the options of our own API."""
        detect: Literal["false", "auto"] = "false" if self.detector_backend == SKIP else "auto"
        return EmotionOptions(detect=detect, landmarks=True)


class AnalyzeDocument(AnalyzeOptions):
    """DeepFace's JSON request."""

    img: str = Field(
        description="The image as a base64 data URI. DeepFace 0.0.90 to 0.0.93 call it `img_path`."
    )


class Region(BaseModel):
    """Where a face is, in whole pixels of the upright image."""

    x: int
    y: int
    w: int
    h: int
    left_eye: tuple[int, int] | None = Field(description="The person's left, as DeepFace has it.")
    right_eye: tuple[int, int] | None


class AnalyzedFace(BaseModel):
    """A face and its apparent expression."""

    emotion: dict[str, float] = Field(description="Per cent, 0 to 100.")
    dominant_emotion: str
    region: Region
    face_confidence: float = Field(description="0 where no detector found the face.")


class AnalyzeResponse(BaseModel):
    """The faces of an image, largest first."""

    results: list[AnalyzedFace]

    @classmethod
    def of(cls, recognition: Recognition) -> "AnalyzeResponse":
        """Says in DeepFace's words what was seen."""
        return cls(results=[_analyzed(face) for face in recognition.faces])


class AnalyzeProblem(ProblemDetails):
    """An error, with the member that DeepFace's clients read."""

    @computed_field(description="The same as `detail`.")  # type: ignore[prop-decorator]
    @property
    def error(self) -> str:
        """DeepFace's only member of an error."""
        return self.detail


def require_faces(recognition: Recognition) -> Recognition:
    """Returns what was seen.

    Raises:
        NoFace: It is nothing.
    """
    if not recognition.faces:
        raise NoFace(  # DeepFace's own words: clients look for them
            "Face could not be detected. Please confirm that the picture is a face photo or "
            "consider to set enforce_detection param to False."
        )
    return recognition


def is_text(img: bytes) -> bool:
    """Says whether a form's field holds text rather than a file."""
    return img[:5].lower() == b"data:" or _TEXT.fullmatch(img) is not None


def require_data_uri(img: str) -> str:
    """Returns the text of an image in base64.

    Raises:
        InvalidParameter: It is an address or a path, which DeepFace would open.
    """
    if img[:5].lower() != "data:":
        raise InvalidParameter(_NO_REFERENCES)
    return img


def _analyzed(face: FaceEmotion) -> AnalyzedFace:
    # Ours are left and right as in the picture, DeepFace's as the person has them.
    right, left = face.landmarks[:2] if face.landmarks else (None, None)
    box = face.box
    return AnalyzedFace(
        emotion={name: 100 * value for name, value in face.emotions.items()},
        dominant_emotion=face.dominant_emotion,
        region=Region(
            x=box.x,
            y=box.y,
            w=box.width,
            h=box.height,
            left_eye=_pixel(left),
            right_eye=_pixel(right),
        ),
        face_confidence=face.face_confidence or 0.0,
    )


def _pixel(point: Point | None) -> tuple[int, int] | None:
    return (round(point.x), round(point.y)) if point else None
