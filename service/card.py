"""The model card: what a served ONNX file says of itself."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SplitMetrics(BaseModel):
    """Scores on one split of FER2013, measured through ONNX Runtime.

    Attributes:
        n: Number of images scored.
        accuracy: Share of images whose most probable emotion is the label, 0..1.
        macro_f1: Unweighted mean of the seven F1 scores, 0..1.
        ece: Expected calibration error over 15 equal-width bins, 0..1.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float


class ModelCard(BaseModel):
    """Contents of ``models/<name>.json``.

    All but ``sha256`` and ``robustness``, which is measured later, is in the ONNX metadata too.

    Attributes:
        labels: Emotions in the order of the output's columns.
        metrics: By split: ``all``, ``public``, ``private``, ``leak_free``, ``train``.
        low_confidence_threshold: Below this probability an answer carries ``low_confidence``.
        mirror_averaging: Whether the graph averages each face with its mirror image.
        sha256: Hash of the ONNX file, lower-case hexadecimal.
        robustness: Accuracy, 0..1, by what was done to the faces; see ``docs/robustness.md``.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    version: str
    description: str
    labels: list[str]
    input: dict[str, Any]
    output: dict[str, Any]
    parameters: int
    training: dict[str, Any]
    metrics: dict[str, SplitMetrics]
    temperature: float = Field(gt=0)
    low_confidence_threshold: float = Field(ge=0, le=1)
    mirror_averaging: bool
    licences: list[str]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    robustness: dict[str, float] | None = None

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        """Reads a card from a JSON file.

        Raises:
            OSError: The file cannot be read.
            pydantic.ValidationError: It is not a card; the message names the field.
        """
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Writes the card as indented JSON."""
        document = self.model_dump_json(indent=2, exclude_none=True)
        path.write_text(document + "\n", encoding="utf-8")
