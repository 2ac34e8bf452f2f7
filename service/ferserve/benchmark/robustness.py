"""The robustness card: accuracy on faces that were cropped, lit or compressed otherwise."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferserve.benchmark.dataset import LabelledFaces
from ferserve.benchmark.perturbations import PERTURBATIONS
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import score, wilson_interval
from ferserve.models import Model, load_models, read_card
from ferserve.sessions import CPU, Runtime
from ferserve.settings import usable_cpus

BATCH = 32

INTRODUCTION = """\
# Robustness

Accuracy, %, of each model on FER2013 faces that were changed the way other crops, cameras and
light change them, and the change in points against the unchanged faces. No model was trained or
chosen on these figures. Made by `make robustness`; `robustness.json` beside this file has the
unrounded figures.
"""

NOTES = """\
Tighter and wider crops move all four sides; what comes in from outside repeats the edge, as in
the service's own crops. Rotation is about the centre. Brightness multiplies the grey values and
clips them.
"""


@dataclass(frozen=True)
class Robustness:
    """One model's figures.

    Attributes:
        split: Part of FER2013.
        n: Faces.
        accuracy: By condition, ``original`` first; shares, 0..1.
        measured_on: Date, ISO 8601.
    """

    model: str
    version: str
    sha256: str
    dataset_sha256: str
    split: str
    n: int
    accuracy: dict[str, float]
    measured_on: str


def work(data: LabelledFaces) -> int:
    """Faces that ``measure`` runs through a model."""
    return len(PERTURBATIONS) * len(data.faces)


def measure(
    models_dir: Path,
    name: str,
    data: LabelledFaces,
    split: str,
    advance: Callable[[int], object],
) -> Robustness:
    """Runs a model under every condition.

    Args:
        models_dir: Folder of the models.
        name: Name of the model.
        data: Unchanged faces.
        split: What part of FER2013 they are.
        advance: Called with the number of faces done since its last call; by several threads.

    Raises:
        ModelError: The model cannot be loaded.
    """
    model = load_models(models_dir, [name], Runtime(max_batch=BATCH))[name]
    accuracy = {}
    for condition, change in PERTURBATIONS.items():
        faces = np.stack([change(face) for face in data.faces])
        probabilities = _predict(model, faces, advance)
        accuracy[condition] = score(probabilities, data.labels).accuracy
    card = model.card
    return Robustness(
        model=name,
        version=card.version,
        sha256=card.sha256,
        dataset_sha256=data.info.sha256,
        split=split,
        n=len(data.faces),
        accuracy=accuracy,
        measured_on=datetime.now(UTC).date().isoformat(),
    )


def write(folder: Path, found: Robustness) -> None:
    """Puts a model's figures into ``robustness.json`` and renders ``robustness.md`` from it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "robustness.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    entries[found.model] = asdict(found)
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    page = render([Robustness(**entry) for entry in entries.values()])
    (folder / "robustness.md").write_text(page, encoding="utf-8")


def render(entries: list[Robustness]) -> str:
    """Returns the card in Markdown, a column a model."""
    names = " | ".join(entry.model for entry in entries)
    lines = [f"| | {names} |", "|---|" + "---:|" * len(entries)]
    for condition in PERTURBATIONS:
        cells = " | ".join(_cell(entry, condition) for entry in entries)
        lines.append(f"| {condition} | {cells} |")
    facts = [_facts(entry) for entry in entries]
    return "\n".join([INTRODUCTION, *lines, "", NOTES, *facts, ""])


def note_in_card(models_dir: Path, found: Robustness) -> None:
    """Puts a summary into the model's card; its ONNX file is not touched."""
    card = read_card(models_dir, found.model)
    card.robustness = found.accuracy
    card.write(models_dir / f"{found.model}.json")


def _predict(
    model: Model, faces: NDArray[np.uint8], advance: Callable[[int], object]
) -> NDArray[np.float32]:
    """Returns float32 ``[N, 7]`` in the order of ``EMOTIONS``, using every processor."""

    def run(start: int) -> NDArray[np.float32]:
        rows = model.predict(faces[start : start + BATCH])
        advance(len(rows))
        return rows

    workers = usable_cpus() if model.provider == CPU else 1
    with ThreadPoolExecutor(workers) as pool:
        rows = np.concatenate(list(pool.map(run, range(0, len(faces), BATCH))))
    return rows[:, [model.labels.index(emotion) for emotion in EMOTIONS]]


def _cell(entry: Robustness, condition: str) -> str:
    accuracy, original = entry.accuracy[condition], entry.accuracy["original"]
    if condition == "original":
        return f"**{100 * accuracy:.2f}**"
    return f"{100 * accuracy:.2f} ({100 * (accuracy - original):+.1f})"


def _facts(entry: Robustness) -> str:
    original = entry.accuracy["original"]
    low, high = wilson_interval(round(original * entry.n), entry.n)
    return (
        f"- {entry.model} {entry.version}, SHA-256 `{entry.sha256[:16]}…`: {entry.n:,} faces of "
        f"the split `{entry.split}`, measured on {entry.measured_on}; 95 % interval of the first "
        f"figure: {100 * low:.1f} to {100 * high:.1f}."
    )
