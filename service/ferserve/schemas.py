"""The API's data: what a request may ask for and what an answer holds."""

from typing import Annotated, ClassVar, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS

DetectMode = Literal["auto", "true", "false"]
StreamDetectMode = Literal["auto", "true", "false", "every-frame"]
FaceWarning = Literal["small_face", "low_confidence", "clipped_face"]
Probability = Annotated[float, Field(ge=0, le=1)]

MIN_FACE_CONFIDENCE = 0.5
"""Highest false score on 320 random crops of photos without faces: 0.44. At 0.35 about 1 in 100
fires."""

EXAMPLE = dict(zip(EMOTIONS, (0.01, 0.0, 0.01, 0.91, 0.02, 0.02, 0.03), strict=True))


class FaceOptions(BaseModel):
    """What a caller can choose for an image or a stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None, description="Name of a model of `/v1/models`; without it the default one."
    )
    max_faces: int | None = Field(
        default=None,
        ge=1,
        description="Most faces to answer, largest first; without it the service's limit.",
    )
    min_face_confidence: Probability = Field(
        default=MIN_FACE_CONFIDENCE,
        allow_inf_nan=False,
        description="Detections the face detector is less sure of are left out.",
    )
    landmarks: bool = Field(
        default=False, description="Whether to answer each face's five landmarks."
    )


class EmotionOptions(FaceOptions):
    """What a caller can choose for one image."""

    detect: DetectMode = Field(
        default="auto",
        description="Whether to look for faces. `false` takes the whole image as one face; `auto` "
        "does so for images of at most 64 pixels on their longer side.",
    )


class StreamOptions(FaceOptions):
    """What a caller can choose for a stream of frames."""

    detect: StreamDetectMode = Field(
        default="auto",
        description="As for an image. Faces are looked for near those of the frame before, and in "
        "the whole frame about once a second and when one is lost; with `every-frame` always in "
        "the whole frame.",
    )
    smoothing_seconds: float = Field(
        default=0.5,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Time constant of `emotions_smoothed`, seconds; 0 smooths nothing.",
    )

    def of_a_frame(self) -> EmotionOptions:
        """Returns what is chosen for each frame."""
        shared = self.model_dump(include=set(FaceOptions.model_fields))
        detect = "auto" if self.detect == "every-frame" else self.detect
        return EmotionOptions(detect=detect, **shared)


class FaceChoices(TypedDict, total=False):
    """``FaceOptions`` as keyword arguments; what is left out is up to the service."""

    model: str
    max_faces: int
    min_face_confidence: float
    landmarks: bool


class RecognizeOptions(FaceChoices, total=False):
    """``EmotionOptions`` as keyword arguments."""

    detect: DetectMode


class StreamingOptions(FaceChoices, total=False):
    """``StreamOptions`` as keyword arguments."""

    detect: StreamDetectMode
    smoothing_seconds: float


class ImageDocument(BaseModel):
    """An image in a JSON request."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(description="The image file in base64, or as a base64 data URI.")


class ModelReference(BaseModel):
    """The model that answered."""

    name: str
    version: str
    sha256: str = Field(description="Hash of its ONNX file.")


class ImageInfo(BaseModel):
    """The image as it was decoded."""

    width: int = Field(description="Pixels, after the EXIF orientation was applied.")
    height: int = Field(description="Pixels, after the EXIF orientation was applied.")
    format: str = Field(description="By content, not by name.", examples=["PNG"])
    exif_orientation: int = Field(description="1..8 as stored in the file; 1 is upright.")


class Box(BaseModel):
    """Whole pixels of the upright image, clipped to it."""

    x: int
    y: int
    width: int
    height: int


class Point(BaseModel):
    """Pixels of the upright image."""

    x: float
    y: float


class FaceEmotion(BaseModel):
    """One face and its apparent expression, which need not be what the person feels."""

    box: Box
    face_confidence: Probability | None = Field(
        description="How sure the face detector is; null where it did not run."
    )
    dominant_emotion: str = Field(examples=["happy"])
    confidence: Probability = Field(description="Probability of the dominant emotion.")
    emotions: dict[str, Probability] = Field(
        description="All seven, unrounded; they sum to 1.", examples=[EXAMPLE]
    )
    warnings: list[FaceWarning] = Field(
        description="`small_face`: fewer than 48 decoded pixels on its longer side, so it had to "
        "be enlarged. `low_confidence`: below the threshold of the model's card. `clipped_face`: "
        "the face, or the square cut around it, reaches over the image's border."
    )
    landmarks: list[Point] | None = Field(
        default=None,
        description="Only where asked for; null where the detector did not run. Five points, left "
        "and right as in the picture: left eye, right eye, tip of the nose, left and right corner "
        "of the mouth. They may lie outside the image.",
    )


class Timing(BaseModel):
    """Where the time went, milliseconds."""

    decode: float = Field(description="Bytes to upright pixels.")
    detect: float = Field(description="Finding and cropping the faces.")
    queue: float = Field(
        description="Waiting: for a decoder, and for inference (the face that waited longest)."
    )
    inference: float = Field(description="The slowest batch with one of these faces.")
    total: float = Field(description="From the whole upload to the answer.")


class Recognition(BaseModel):
    """What the service sees in one image."""

    model: ModelReference
    image: ImageInfo
    faces: list[FaceEmotion] = Field(description="Largest first; empty where there is none.")
    timing_ms: Timing


class RequestIdentity(BaseModel):
    """Ties an answer to the request and to the logs."""

    request_id: str = Field(description="Also in the header `X-Request-ID`.")


class EmotionResponse(Recognition, RequestIdentity):
    """The answer to one image."""


class TrackedFace(FaceEmotion):
    """A face of a stream."""

    track: int = Field(
        description="The same number in every frame in which it is the same face, as far as the "
        "overlap of the boxes tells; from 1, and never used twice in a stream."
    )
    emotions_smoothed: dict[str, Probability] = Field(
        description="Exponentially smoothed over the time that the track is seen; they sum to 1.",
        examples=[EXAMPLE],
    )


class StreamPlace(BaseModel):
    """Which frame an answer is for. `frame` is the number of answers so far plus `dropped`."""

    frame: int = Field(description="Number of the frame, from 1, in the order of arrival.")
    dropped: int = Field(
        description="Frames before this one that were not answered, because newer ones had come."
    )


class StreamAnswer(StreamPlace, RequestIdentity):
    """The answer to one frame: that of `/v1/emotion` with its place and with tracks."""

    model: ModelReference
    image: ImageInfo
    faces: list[TrackedFace] = Field(description="Largest first; empty where there is none.")
    timing_ms: Timing


class ModelList(BaseModel):
    """The models being served."""

    default: str = Field(description="Answers requests that name no model.")
    models: list[ModelCard]


class Health(BaseModel):
    """A probe's good news."""

    status: Literal["live", "ready"]


class ProblemDetails(BaseModel):
    """An error, as RFC 9457 has it."""

    media_type: ClassVar[str] = "application/problem+json"

    type: str = Field(description="Identifies the kind of problem.")
    title: str = Field(description="The kind of problem in words; the same every time.")
    status: int
    detail: str = Field(description="What is wrong with this request.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="The kind of problem in a word, for programs.")
    request_id: str


class StreamProblem(StreamPlace):
    """A frame that was refused; the stream goes on."""

    problem: ProblemDetails


class StreamRefusal(BaseModel):
    """Why a stream did not begin; the only message of such a connection."""

    problem: ProblemDetails
    retry_after: int | None = Field(description="Seconds to wait; null if waiting does not help.")


class StreamCounts(BaseModel):
    """What became of the frames of a stream: `received` is `answered` plus `dropped`."""

    received: int
    answered: int = Field(description="With a result or a problem.")
    dropped: int


class StreamEnd(BaseModel):
    """The last message of a stream that the client ended with `end`, or that the service ends."""

    end: StreamCounts


class ItemResult(BaseModel):
    """An image of a batch that was answered."""

    result: Recognition


class ItemProblem(BaseModel):
    """An image of a batch that was refused."""

    problem: ProblemDetails


class BatchResponse(RequestIdentity):
    """The answer to several images."""

    items: list[ItemResult | ItemProblem] = Field(description="In the order of the files.")


MAX_FAULTS = 100


def describe_faults(error: ValidationError, whole: str = "body", most: int | None = None) -> str:
    """Names the fields that are wrong and the rules they break, never the values.

    All fields together are called ``whole``; ``most`` is the largest number of faults named.
    """
    if error.error_count() > MAX_FAULTS:  # each takes a kilobyte to name
        return f"{error.error_count()} fields are wrong"
    faults = error.errors(include_input=False, include_url=False)[:most]
    # A name may be the caller's own, and megabytes long.
    return "; ".join(f"{'.'.join(map(str, f['loc']))[:100] or whole}: {f['msg']}" for f in faults)
