"""The model card: what a served ONNX file says of itself."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ferserve.fer2013.scoring import VoteScores

Answers = Literal["FER2013 labels", "FER+ votes"]
"""What a model was taught to answer with."""


class SplitMetrics(BaseModel):
    """Of one split of FER2013, as in :class:`ferserve.fer2013.scoring.Scores`."""

    n: int
    accuracy: float
    macro_f1: float
    ece: float


class PowerScaling(BaseModel):
    """Two numbers that calibrate probabilities; the order of the emotions stays.

    They become ``softmax(-scale * (-log p) ** exponent)``. Above 1, ``scale`` makes answers surer,
    and ``exponent`` small probabilities smaller.
    """

    scale: float = Field(gt=0)
    exponent: float = Field(gt=0)


class Calibration(BaseModel):
    """What calibration and mirroring gained on the hold-out, on which they were fitted and chosen.

    Attributes:
        accuracy: Share of images that are answered right, 0..1; of a model of the votes the mean
            share of the people who chose its answer.
        mirror_gain: By how much averaging with the mirror image raises it, served or not.
        ece_before: Expected calibration error at temperature 1 and without power scaling.
        ece_after: The same as it is served.
    """

    n: int
    accuracy: float
    mirror_gain: float | None = None
    ece_before: float
    ece_after: float


class ModelCard(BaseModel):
    """Contents of ``models/<name>.json``.

    All but ``sha256`` and what was measured later is in the ONNX metadata too.

    Attributes:
        answers: The scores of a model of the labels say how likely each label is; those of a model
            of the votes are shares of people.
        multiply_adds: Of convolutions and matrix products for one face and its mirror image.
        metrics: Against the labels, by split: ``all``, ``public``, ``private``, ``leak_free``,
            ``train``.
        temperature: The logits are divided by it.
        power_scaling: Done to the probabilities last of all, after averaging.
        sharpening: Whether the graph sharpens blurred faces before the network sees them.
        mirror_averaging: Whether the graph averages each face with its mirror image.
        sha256: Of the ONNX file.
        robustness: Accuracy, 0..1, by what was done to the faces; see ``docs/robustness.md``.
        votes: Against the votes, by split: ``public``, ``private``.
        precision: In which convolutions compute; float32 if None.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    version: str
    description: str
    answers: Answers = "FER2013 labels"
    labels: list[str]
    input: dict[str, Any]
    output: dict[str, Any]
    parameters: int
    multiply_adds: int | None = None
    training: dict[str, Any]
    metrics: dict[str, SplitMetrics]
    votes: dict[str, VoteScores] | None = None
    temperature: float = Field(gt=0)
    power_scaling: PowerScaling | None = None
    low_confidence_threshold: float = Field(ge=0, le=1)
    sharpening: bool = False
    mirror_averaging: bool
    licences: list[str]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    robustness: dict[str, float] | None = None
    calibration: Calibration | None = None
    precision: Literal["int8", "float16"] | None = None

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        """Reads a card from a JSON file; raises OSError or pydantic.ValidationError."""
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Writes the card as indented JSON."""
        document = self.model_dump_json(indent=2, exclude_none=True)
        path.write_text(document + "\n", encoding="utf-8")
