"""``make results``: the tables of README.md and docs/results.md, made from the artefacts.

Run as ``python -m ferserve_export.results``; with ``--check`` it changes nothing, and fails where
a page is stale.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ferserve.benchmark.peers import KINDS, PEERS, PEOPLE
from ferserve.card import ModelCard, SplitMetrics
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import wilson_interval
from ferserve.fer2013.vote_scoring import VoteScores
from ferserve.policy import policy
from ferserve.settings import Settings

from ferserve_export.errors import ExportError

ROOT = Path(__file__).resolve().parents[2]

TITLES = {
    "light": "Light",
    "crowd": "Crowd",
    "custom_cnn": "Custom CNN",
    "vgg16": "VGG16",
    "resnet50v2": "ResNet50V2",
    "ensemble": "Ensemble",
}
"""In the order of the tables."""

REFERENCE = {"custom_cnn": 55.52, "vgg16": 55.00, "resnet50v2": 60.80}
"""Accuracy of the reference project on all 7,178 test images, %."""

DISTILLED = {
    "custom_cnn_labels": "labels, all of Training (1.1.0)",
    "custom_cnn_distilled": "labels and teachers, nine tenths of Training",
}
"""What the Custom CNN learned from, by report; one of the two is the model that is served."""

SPLITS = {
    "all": "all 7,178",
    "public": "PublicTest",
    "private": "PrivateTest",
    "leak_free": "leak-free",
    "train": "Training",
}

TRAINING_IMAGES = 28709

BEGIN, END = "<!-- made by `make results`: -->", "<!-- until here -->"


def pages(root: Path) -> dict[Path, str]:
    """Returns the contents that README.md and docs/results.md should have.

    Args:
        root: Of the repository.

    Raises:
        ExportError: A report in ``docs/results`` is of another model than its card's.
    """
    cards = [
        ModelCard.read(path)
        for name in TITLES
        if (path := root / "models" / f"{name}.json").exists()
    ]
    reports = {card.name: _report(root, card) for card in cards}
    readme = root / "README.md"
    return {
        readme: between_marks(readme.read_text(encoding="utf-8"), summary(cards)),
        root / "docs" / "results.md": _results_page(root, cards, reports),
    }


def between_marks(text: str, table: str) -> str:
    """Puts ``table`` between the marks in ``text``.

    Raises:
        ExportError: The marks are missing.
    """
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ExportError(f"README.md: expected {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def summary(cards: list[ModelCard]) -> str:
    """Renders one row a model, and below them peers on the same images."""
    titles = list(SPLITS.values())
    lines = [
        f"| accuracy, % | reference | {' | '.join(titles)} | macro-F1 | ECE | majority |",
        "|---|" + "---|" * (len(titles) + 4),
    ]
    for card in cards:
        cells = [_percent(card.metrics[split]) for split in SPLITS]
        cells[0] = f"**{cells[0]}**"
        reference = f"{REFERENCE[card.name]:.2f}" if card.name in REFERENCE else "–"
        scores, votes = card.metrics["all"], (card.votes or {}).get("private")
        lines.append(
            f"| {TITLES[card.name]} | {reference} | {' | '.join(cells)} "
            f"| {scores.macro_f1:.3f} | {scores.ece:.3f} | {_percent(votes) if votes else '–'} |"
        )
    for name, figures in _measured_peers().items():
        cells = [figures.get(split, "") for split in SPLITS]
        lines.append(f"| *{name}* | | {' | '.join(cells)} | | | |")
    return "\n".join(lines)


def _report(root: Path, card: ModelCard) -> dict[str, Any]:
    path = root / "docs" / "results" / f"{card.name}.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for split, scores in card.metrics.items():
        if report[split]["accuracy"] != scores.accuracy:
            raise ExportError(
                f"{path.name} is not of the model that {card.name}.json describes; "
                f"ferserve evaluate {card.name} --out docs/results makes it anew"
            )
    return report


def _results_page(root: Path, cards: list[ModelCard], reports: dict[str, dict[str, Any]]) -> str:
    parts = [
        INTRODUCTION,
        "## Accuracy\n\n" + _accuracy_table(cards),
        *_votes_section(cards),
        "## The default model\n\n" + DEFAULT_NOTE,
        "## Distillation\n\n" + _distillation_table(root) + "\n\n" + DISTILLATION_NOTE,
        "## Calibration\n\n" + _calibration_table(cards) + "\n\n" + CALIBRATION_NOTE,
        *_mirror_section(root, cards),
        "## Others\n\n" + _peers_table(),
        *(_model_section(card, reports[card.name]) for card in cards),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
# Results on FER2013

Made by `make results` from the cards in `models/` and the reports in `docs/results/`; measured
through ONNX Runtime on the committed files. `ferserve evaluate MODEL --data fer2013.zip --out
docs/results` repeats a report.

Nothing was chosen on a test image. **All** 7,178 test images are the reference project's measure.
568 of them are, pixel for pixel, Training images too; **leak-free** leaves these out. ± is half of
the 95 % interval (Wilson) of one run's share; a run with another seed differs by about as much."""

DEFAULT_NOTE = """\
If a request names no model, `crowd` answers. The hold-out decided this. Its figures, in %, are of
the run that `light` and `crowd` were made from, with the mirror image, before the last convolution
was cut from 512 to 480 features:

| 2,871 faces, 2,655 with a majority | majority | mean recall | neutral | labels |
|---|---:|---:|---:|---:|
| votes head: `crowd` | **83.2** | 68.8 | **89** | 59.1 |
| the same, logits adjusted by a quarter of the log prior | 82.4 | 73.7 | 83 | 60.7 |
| the same, by a half | 80.4 | **75.9** | 76 | 61.6 |
| mean of both heads | 80.7 | 73.1 | 75 | 63.6 |
| label head: `light` | 71.8 | 71.5 | 54 | **67.5** |

A stranger asks what a face shows. People call most faces neutral; models of the labels find
half of these, `crowd` finds nine of ten. Its scores are shares of people and close to them (ECE
below). It takes a fifteenth of the Custom CNN's multiply-adds and, on two cores of an AMD EPYC,
a tenth of its time. The price is that it overlooks disgust and fear, which people seldom see;
every adjustment that finds more of them loses more neutral faces. If you want the labels of
FER2013, ask for `custom_cnn`, or for `light` where cost matters."""

DISTILLATION_NOTE = """\
The second is served. Beside the labels, it learned to answer as the mean of the first, VGG16 and
ResNet50V2 (recipe `distill-cpu`: temperature 4, weight of the teachers 0.7). It kept a hold-out for
its temperature, its threshold and the ensemble's weights; this was decided before its test figures
were known, on condition of 69.0 % on the hold-out. The first teacher was fitted to all of Training,
so its answers to other faces carried some of the hold-out's labels over. On the hold-out, stored as
int8, the second alone is right on 69.2 %; the mean of all three is right on 69.1 to 69.3 if its
weight is 0.8 or more, and on 67.9 with equal weights. So the second got nearly
all of the ensemble's weight."""

VOTES_NOTE = """\
Measured on PrivateTest. *Majority*: right answers among the faces whose majority is unique and one
of the seven emotions, % ± half of the 95 % interval. Recalls are of the same faces, in %; their
mean counts every emotion the same. Cross-entropy (nats), Jensen-Shannon distance and ECE are to the
shares of people among the seven. `ferserve evaluate MODEL --data fer2013.zip --votes ferplus.csv
--update-card` measures them anew."""

CALIBRATION_NOTE = """\
The expected calibration error (ECE, 15 bins) is the mean gap between how sure the answers are and
how often they are right; *before* is without temperature and power scaling
([how](training.md#export)), which are fitted on the hold-out, a tenth of Training. For a model of
the votes, the shares of people take the place of the labels. [Model cards](model-cards.md) have the
fitted values and the ECE of every split."""

MIRROR_NOTE = """\
The files in `models/` average each face with its mirror image, which doubles the work;
`ferserve evaluate MODEL --no-mirror` takes that out of the graph."""

MIRROR_SPLITS = ("all", "private", "leak_free")


def _accuracy_table(cards: list[ModelCard]) -> str:
    lines = [f"| % | {' | '.join(SPLITS.values())} | macro-F1 |", "|---|" + "---|" * 6]
    for card in cards:
        cells = [_with_interval(card.metrics[split]) for split in SPLITS]
        macro = card.metrics["all"].macro_f1
        lines.append(f"| {TITLES[card.name]} | {' | '.join(cells)} | {macro:.3f} |")
    sampled = [
        f"{TITLES[card.name]} {card.metrics['train'].n:,}"
        for card in cards
        if card.metrics["train"].n < TRAINING_IMAGES
    ]
    if sampled:
        lines.append(f"\nTraining images scored, drawn at random: {', '.join(sampled)}.")
    return "\n".join(lines)


def _votes_section(cards: list[ModelCard]) -> list[str]:
    """The section on people's votes, if any model was measured against them; else none."""
    heads = ["answers with", "majority", "mean recall", *EMOTIONS, "cross-entropy", "JS", "ECE"]
    rows, counts = [], set()
    for card in cards:
        if not card.votes or "private" not in card.votes:
            continue
        votes = card.votes["private"]
        counts.add(f"{votes.n:,}")
        recalls = [votes.mean_recall, *(votes.recall.get(name) for name in EMOTIONS)]
        cells = [
            card.answers,
            _with_interval(votes),
            *("–" if share is None else f"{100 * share:.1f}" for share in recalls),
            f"{votes.cross_entropy:.3f} | {votes.js_distance:.3f} | {votes.ece:.3f}",
        ]
        rows.append(f"| {TITLES[card.name]} | {' | '.join(cells)} |")
    if not rows:
        return []
    heads[1] += f", n = {' or '.join(sorted(counts))}"
    table = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads), *rows]
    meaning = policy(Settings.model_construct()).labels_and_votes
    return ["## People's votes\n\n" + "\n\n".join([meaning, "\n".join(table), VOTES_NOTE])]


def _distillation_table(root: Path) -> str:
    lines = [
        f"| Custom CNN, % | {' | '.join(SPLITS.values())} | macro-F1 | ECE |",
        "|---|" + "---|" * 7,
    ]
    for name, title in DISTILLED.items():
        path = root / "docs" / "results" / f"{name}.json"
        report = json.loads(path.read_text(encoding="utf-8"))
        cells = [f"{100 * report[split]['accuracy']:.2f}" for split in SPLITS]
        scores = f"{report['all']['macro_f1']:.3f} | {report['all']['ece']:.3f}"
        lines.append(f"| {title} | {' | '.join(cells)} | {scores} |")
    return "\n".join(lines)


def _calibration_table(cards: list[ModelCard]) -> str:
    lines = ["| | hold-out | ECE before | after |", "|---|" + "---|" * 3]
    for card in cards:
        if fitted := card.calibration:
            lines.append(
                f"| {TITLES[card.name]} | {fitted.n:,} "
                f"| {fitted.ece_before:.3f} | {fitted.ece_after:.3f} |"
            )
    return "\n".join(lines)


def _mirror_section(root: Path, cards: list[ModelCard]) -> list[str]:
    """The section on what mirroring does, if it was measured of any model; else none.

    Raises:
        ExportError: A report is of another file than its card's.
    """
    rows = []
    for card in cards:
        path = root / "docs" / "results" / f"{card.name}_no_mirror.json"
        if not path.exists():
            continue
        without = json.loads(path.read_text(encoding="utf-8"))
        if without["model_sha256"] != card.sha256:
            raise ExportError(
                f"{path.name} is not of {card.name}.onnx; ferserve evaluate {card.name} "
                "--no-mirror --out docs/results makes it anew"
            )
        cells = [
            f"{100 * accuracy:.2f}"
            for split in MIRROR_SPLITS
            for accuracy in (card.metrics[split].accuracy, without[split]["accuracy"])
        ]
        rows.append(f"| {TITLES[card.name]} | {' | '.join(cells)} |")
    if not rows:
        return []
    heads = [f"{SPLITS[split]}, with | without" for split in MIRROR_SPLITS]
    table = [f"| % | {' | '.join(heads)} |", "|---|" + "---|" * 2 * len(heads), *rows]
    return ["## With and without the mirror image\n\n" + "\n".join(table) + "\n\n" + MIRROR_NOTE]


def _peers_table() -> str:
    lines = ["| | all | PrivateTest | leak-free | |", "|---|---|---|---|---|"]
    names = {peer.name: peer.kind for peers in PEERS.values() for peer in peers}
    for name, kind in names.items():
        figures = {
            split: f"{100 * peer.accuracy:.2f}"
            for split, peers in PEERS.items()
            for peer in peers
            # The reference project's figure is of all test images, whatever it stands beside.
            if peer.name == name and (kind != "reference" or split == "all")
        }
        cells = [figures.get(split, "") for split in ("all", "private", "leak_free")]
        lines.append(f"| {name} | {' | '.join(cells)} | {kind} |")
    kinds = [f"*{kind}*: {KINDS[kind]}." for kind in dict.fromkeys(names.values())]
    return "\n".join([*lines, "", " ".join([*kinds, PEOPLE])])


def _model_section(card: ModelCard, report: dict[str, Any]) -> str:
    lines = [
        f"## {TITLES[card.name]}",
        "",
        f"{card.description}. {card.parameters / 1e6:.1f} million weights, version {card.version}.",
    ]
    if card.members:
        parts = ", ".join(f"{part.name} {part.weight:.3f}" for part in card.members)
        lines.append(f"Weights: {parts}.")
    classes = report["all"]["per_class"]
    heads = [f"{name} ({classes[name]['support']})" for name in EMOTIONS]
    lines += [
        "",
        f"| all test images | {' | '.join(heads)} |",
        "|---|" + "---|" * len(EMOTIONS),
        *(
            f"| {measure} | "
            + " | ".join(f"{classes[name][measure]:.3f}" for name in EMOTIONS)
            + " |"
            for measure in ("precision", "recall", "f1")
        ),
        "",
        f"![Confusions, F1, reliability, learning curve](results/{card.name}.png)",
    ]
    return "\n".join(lines)


def _measured_peers() -> dict[str, dict[str, str]]:
    """Of the two best that were measured on the same images: accuracy by split, %."""
    names = [peer.name for peer in PEERS["all"] if peer.kind == "measured"][:2]
    return {
        name: {
            split: f"{100 * peer.accuracy:.2f}"
            for split, peers in PEERS.items()
            for peer in peers
            if peer.name == name
        }
        for name in names
    }


def _percent(scores: SplitMetrics | VoteScores) -> str:
    return f"{100 * scores.accuracy:.2f}"


def _with_interval(scores: SplitMetrics | VoteScores) -> str:
    low, high = wilson_interval(round(scores.accuracy * scores.n), scores.n)
    return f"{100 * scores.accuracy:.2f} ± {50 * (high - low):.1f}"


def main(arguments: list[str]) -> int:
    """Writes the pages, or with ``--check`` compares them; returns the exit status."""
    stale = []
    for path, text in pages(ROOT).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"changed: {', '.join(stale) or 'nothing'}\n")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
