"""The benchmark API's data."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ferserve.fer2013.scoring import ClassScores, ReliabilityBin, VoteScores
from ferserve.schemas import DetectMode, ModelReference, Probability

SplitName = Literal["all", "public", "private", "leak_free", "train"]
Against = Literal["labels", "votes"]
Source = Literal["operator", "upload"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["waiting", "reading", "preparing", "scoring", "finished"]


class Choice(BaseModel):
    """What both kinds of benchmark can choose."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str | None = None
    """Name of a model of `/v1/models`; without it, and without `compare`, the default one."""

    compare: tuple[str, ...] = Field(default=(), max_length=8)
    """More models to score on the same faces. Every pair is compared with McNemar's test."""

    limit: int | None = Field(default=None, ge=1)
    """Score only that many faces, spread evenly over the data, so that the shares of the emotions
    stay."""


class BenchmarkRequest(Choice):
    """A benchmark on the operator's FER2013."""

    split: SplitName = "all"
    """`all` test images, `public` or `private` (PublicTest, PrivateTest), `leak_free` (test images
    that are not, pixel for pixel, training images too), `train`."""

    against: Against = "labels"
    """What a right answer is: FER2013's `labels`, or by the `votes` of FER+ what most people said
    of the face. Faces without a clear majority count neither way."""


class UploadOptions(Choice):
    """A benchmark on an uploaded zip: the form's fields beside `file`."""

    detect: DetectMode = "false"
    """`false` takes each whole image as one face; `true` scores the largest face that the detector
    finds; `auto` looks for faces in images of over 64 pixels only."""

    thumbnails: bool = False
    """Keep the 24 most confident mistakes of each model as pictures for the report."""


class Interval(BaseModel):
    """A 95 % confidence interval, after Wilson."""

    low: Probability
    high: Probability


class ConfusionMatrix(BaseModel):
    """Which emotion was taken for which: a row a label, a column an answer."""

    labels: list[str]
    counts: list[list[int]]


class BatchLatency(BaseModel):
    """Durations of this job's inference batches, milliseconds."""

    batches: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class ModelResult(BaseModel):
    """One model's figures, shares unrounded; the calibration error is over 15 bins.

    `seconds` are of scoring alone. Against votes their majority takes the place of the label, and
    `ece` and `reliability` are against the shares of people.
    """

    model: ModelReference
    provider: str
    n: int
    correct: int
    accuracy: Probability
    accuracy_interval: Interval
    macro_f1: Probability
    ece: Probability
    per_class: dict[str, ClassScores]
    confusion: ConfusionMatrix
    reliability: list[ReliabilityBin]
    votes: VoteScores | None = None
    seconds: float
    faces_per_second: float
    batch_latency_ms: BatchLatency
    finished_at: datetime


class Comparison(BaseModel):
    """McNemar's exact test of two models on the same faces.

    The two-sided p-value is the chance of a difference at least this large if both were equally
    good; `accuracy_difference` is the first's accuracy minus the second's.
    """

    first: str
    second: str
    accuracy_difference: float
    only_first_correct: int
    only_second_correct: int
    p_value: Probability


class SkippedFile(BaseModel):
    """A file of the upload that could not be scored; it counts neither as right nor as wrong."""

    file: str
    code: str


class DatasetInfo(BaseModel):
    """What was scored.

    Of the operator's FER2013: the hash of all labelled images, in whatever container, and the
    number of images by split. Of an upload: the hash of the zip, the number of images by class, and
    the first 100 files that could not be scored.
    """

    source: Source
    sha256: str
    votes_sha256: str | None = None
    images: dict[str, int]
    scored: int
    skipped: int
    skipped_files: list[SkippedFile] = []


class BenchmarkResult(BaseModel):
    """What a finished benchmark found."""

    dataset: DatasetInfo
    results: list[ModelResult]
    comparisons: list[Comparison]


class Progress(BaseModel):
    """How far a job is: faces done in this stage, over all models."""

    stage: Stage
    model: str | None = None
    done: int = 0
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
    """A job without its result.

    `split` is null for an upload, and `detect` for the operator's data set; `accuracy` is by model.
    """

    id: str
    status: Status = "queued"
    source: Source
    models: list[str]
    split: SplitName | None = None
    against: Against = "labels"
    limit: int | None = None
    detect: DetectMode | None = None
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress = Progress(stage="waiting")
    accuracy: dict[str, Probability] = {}
    problem: JobProblem | None = None
    links: Links


class BenchmarkDetails(BenchmarkJob):
    """A job with its result, null until it has succeeded."""

    result: BenchmarkResult | None = None


class BenchmarkList(BaseModel):
    """The last jobs, newest first."""

    jobs: list[BenchmarkJob]
