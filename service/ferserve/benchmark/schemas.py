"""The benchmark API's data."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ferserve.fer2013.reliability import ReliabilityBin
from ferserve.fer2013.scoring import ClassScores
from ferserve.fer2013.vote_scoring import VoteScores
from ferserve.schemas import DetectMode, ModelReference, Probability

SplitName = Literal["all", "public", "private", "leak_free", "train"]
Against = Literal["labels", "votes"]
Source = Literal["operator", "upload"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["waiting", "reading", "preparing", "scoring", "finished"]

MAX_MODELS = 8
"""Most models in one job: each runs over all faces."""


class Choice(BaseModel):
    """What both kinds of benchmark can choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None,
        description="Name of a model of `/v1/models`; without it, and without `compare`, the "
        "default one.",
    )
    compare: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_MODELS,
        description="Names of more models to score on the same faces. Every pair is compared with "
        "McNemar's test.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="Score only that many faces, spread evenly over the data, so that the shares "
        "of the emotions stay.",
    )


class BenchmarkRequest(Choice):
    """A benchmark on the operator's FER2013."""

    split: SplitName = Field(
        default="all",
        description="`all` test images, `public` or `private` (PublicTest, PrivateTest), "
        "`leak_free` (test images that are not, pixel for pixel, training images too), `train`.",
    )
    against: Against = Field(
        default="labels",
        description="What a right answer is: FER2013's `labels`, or by the `votes` of FER+ what "
        "most people said of the face. Faces without a clear majority then count neither way. "
        "Votes need FERSERVE_VOTES.",
    )


class UploadOptions(Choice):
    """A benchmark on an uploaded zip: the form's fields beside `file`."""

    detect: DetectMode = Field(
        default="false",
        description="`false` takes each whole image as one face; `true` scores the largest face "
        "that the detector finds; `auto` looks for faces in images of over 64 pixels only.",
    )
    thumbnails: bool = Field(
        default=False,
        description="Keep the 24 most confident mistakes of each model, as 48x48 faces in memory, "
        "for the report. Whoever can reach the service can then see them.",
    )


class Interval(BaseModel):
    """A 95 % confidence interval."""

    low: Probability
    high: Probability


class ConfusionMatrix(BaseModel):
    """Which emotion was taken for which."""

    labels: list[str]
    counts: list[list[int]] = Field(description="Row: the label. Column: the model's answer.")


class BatchLatency(BaseModel):
    """Durations of this job's inference batches, milliseconds."""

    batches: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class ModelResult(BaseModel):
    """One model's figures. They are shares, 0..1, unrounded."""

    model_config = ConfigDict(protected_namespaces=())

    model: ModelReference
    provider: str = Field(description="ONNX Runtime's execution provider.")
    n: int = Field(description="Faces scored.")
    correct: int
    accuracy: Probability
    accuracy_interval: Interval = Field(description="95 %, after Wilson.")
    macro_f1: Probability = Field(description="Unweighted mean of the seven F1 scores.")
    ece: Probability = Field(description="Expected calibration error over 15 bins.")
    per_class: dict[str, ClassScores]
    confusion: ConfusionMatrix
    reliability: list[ReliabilityBin]
    seconds: float = Field(description="Scoring alone, without reading the data.")
    votes: VoteScores | None = Field(
        default=None,
        description="Only against votes, whose majority then takes the place of the label above; "
        "`ece` and `reliability` are against the shares of people.",
    )
    faces_per_second: float
    batch_latency_ms: BatchLatency
    finished_at: datetime


class Comparison(BaseModel):
    """McNemar's exact test of two models on the same faces."""

    first: str
    second: str
    accuracy_difference: float = Field(description="Accuracy of the first minus the second's.")
    only_first_correct: int
    only_second_correct: int
    p_value: Probability = Field(
        description="Two-sided: the chance of a difference at least this large if both were "
        "equally good."
    )


class SkippedFile(BaseModel):
    """A file of the upload that could not be scored; it counts neither as right nor as wrong."""

    file: str
    code: str = Field(description="`no_face`, or the code of the problem with the image.")


class DatasetInfo(BaseModel):
    """What was scored."""

    source: Source
    sha256: str = Field(
        description="Operator's FER2013: over all labelled images, in whatever container. "
        "Upload: of the zip file."
    )
    votes_sha256: str | None = Field(default=None, description="Of FER+, where it was used.")
    images: dict[str, int] = Field(
        description="Number of images: of the whole data set by split, or of the upload by class."
    )
    scored: int
    skipped: int
    skipped_files: list[SkippedFile] = Field(default=[], description="The first 100.")


class BenchmarkResult(BaseModel):
    """What a finished benchmark found."""

    dataset: DatasetInfo
    results: list[ModelResult] = Field(description="In the order asked for.")
    comparisons: list[Comparison]


class Progress(BaseModel):
    """How far a job is."""

    stage: Stage
    model: str | None = Field(default=None, description="The model being scored.")
    done: int = Field(default=0, description="Faces done in this stage, over all models.")
    total: int = 0
    faces_per_second: float | None = None
    seconds_left: float | None = None


class JobProblem(BaseModel):
    """Why a job failed."""

    code: str
    detail: str


class Links(BaseModel):
    """Where to go on: paths on the service's host."""

    self: str
    events: str
    report: str


class BenchmarkJob(BaseModel):
    """A job without its result."""

    id: str
    status: Status = "queued"
    source: Source
    models: list[str]
    split: SplitName | None = Field(default=None, description="Null for an upload.")
    against: Against = "labels"
    limit: int | None = None
    detect: DetectMode | None = Field(default=None, description="Null for the operator's data set.")
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress = Progress(stage="waiting")
    accuracy: dict[str, Probability] = Field(
        default={}, description="By model, once the job has succeeded."
    )
    problem: JobProblem | None = Field(default=None, description="Only where the job failed.")
    links: Links


class BenchmarkDetails(BenchmarkJob):
    """A job with its result."""

    result: BenchmarkResult | None = Field(
        default=None, description="Null until the job has succeeded."
    )


class BenchmarkList(BaseModel):
    """The last jobs, newest first."""

    jobs: list[BenchmarkJob]
