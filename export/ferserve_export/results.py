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
from ferserve.fer2013.scoring import VoteScores, wilson_interval
from ferserve.policy import policy
from ferserve.settings import Settings
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ferserve_export.errors import ExportError

ROOT = Path(__file__).resolve().parents[2]

TITLES = {
    "light": "Light",
    "crowd": "Crowd",
    "custom_cnn": "Custom CNN",
    "vgg16": "VGG16",
    "resnet50v2": "ResNet50V2",
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
    folder = root / "docs" / "results"
    return template("results.md.jinja").render(
        cards=cards,
        reports=reports,
        voted=[card for card in cards if card.votes and "private" in card.votes],
        sampled=[card for card in cards if card.metrics["train"].n < TRAINING_IMAGES],
        distilled=[
            (title, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
            for name, title in DISTILLED.items()
        ],
        titles=TITLES,
        splits=SPLITS,
        emotions=EMOTIONS,
        policy=policy(Settings.model_construct()),
        peers={peer.name: peer.kind for peers in PEERS.values() for peer in peers},
        peer_accuracy=_peer_accuracy,
        kinds=KINDS,
        people=PEOPLE,
        interval=_with_interval,
        percent=lambda value: f"{100 * value:.2f}",
        share=share,
    )


def template(name: str) -> Template:
    """Returns a page's template."""
    environment = Environment(
        loader=PackageLoader("ferserve_export", "."),
        autoescape=False,  # noqa: S701 -- Markdown of our own
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def share(value: float | None) -> str:
    """Formats a share in %; a dash for none."""
    return "–" if value is None else f"{100 * value:.1f}"


def _peer_accuracy(name: str, split: str) -> str:
    """A peer's accuracy on a split, %; of the reference project's only that on all images."""
    for peer in PEERS[split]:
        if peer.name == name and (peer.kind != "reference" or split == "all"):
            return f"{100 * peer.accuracy:.2f}"
    return ""


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


def write_pages(pages: dict[Path, str], arguments: list[str]) -> int:
    """Writes pages, or with ``--check`` compares them; returns the exit status."""
    stale = []
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"changed: {', '.join(stale) or 'nothing'}\n")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(write_pages(pages(ROOT), sys.argv[1:]))
