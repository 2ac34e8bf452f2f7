"""``make results``: the pages made from cards, reports and the policy.

These are the table in README.md, docs/results.md and docs/model-cards.md, whose sections follow
Mitchell et al. 2019, Model Cards for Model Reporting. Run as ``python -m ferserve_export.results``.
"""

import json
from pathlib import Path
from typing import Any

from ferserve.benchmark.peers import KINDS, PEERS, PEOPLE
from ferserve.card import ModelCard, SplitMetrics
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import VoteScores, wilson_interval
from ferserve.policy import policy
from ferserve.settings import Settings
from jinja2 import Environment, PackageLoader, StrictUndefined

from ferserve_export import ExportError

ROOT = Path(__file__).resolve().parents[2]

TITLES = {
    "light": "Light",
    "crowd": "Crowd",
    "custom_cnn": "Custom CNN",
    "vgg16": "VGG16",
    "resnet50v2": "ResNet50V2",
}
"""In the order of the tables."""

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
    """Returns what the pages should contain; ExportError where a report is of another model."""
    cards = sorted(
        (ModelCard.read(path) for path in (root / "models").glob("*.json")),
        key=lambda card: ([*TITLES, card.name].index(card.name), card.name),
    )
    titled = [card for card in cards if card.name in TITLES]
    reports = {card.name: _report(root, card) for card in titled}
    readme = root / "README.md"
    return {
        readme: between_marks(readme.read_text(encoding="utf-8"), summary(titled)),
        root / "docs" / "results.md": _results_page(titled, reports),
        root / "docs" / "model-cards.md": cards_page(cards),
    }


def between_marks(text: str, table: str) -> str:
    """Puts ``table`` between the marks in ``text``."""
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
        reference = _peer_accuracy(f"Reference {TITLES[card.name]}", "all") or "–"
        scores, votes = card.metrics["all"], (card.votes or {}).get("private")
        lines.append(
            f"| {TITLES[card.name]} | {reference} | {' | '.join(cells)} "
            f"| {scores.macro_f1:.3f} | {scores.ece:.3f} | {_percent(votes) if votes else '–'} |"
        )
    measured = [peer.name for peer in PEERS["all"] if peer.kind == "measured"]
    for name in measured[:2]:
        cells = [_peer_accuracy(name, split) for split in SPLITS]
        lines.append(f"| *{name}* | | {' | '.join(cells)} | | | |")
    return "\n".join(lines)


def _report(root: Path, card: ModelCard) -> dict[str, Any]:
    path = root / "docs" / "results" / f"{card.name}.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for split, scores in card.metrics.items():
        if report[split]["accuracy"] != scores.accuracy:
            raise ExportError(
                f"{path.name} is not of the model that {card.name}.json describes; "
                f"ferserve evaluate {card.name} --votes … --train-faces {card.metrics['train'].n} "
                "--out docs/results makes it anew"
            )
    return report


def _results_page(cards: list[ModelCard], reports: dict[str, dict[str, Any]]) -> str:
    return _render(
        "results.md.jinja",
        cards=cards,
        reports=reports,
        voted=[card for card in cards if card.votes and "private" in card.votes],
        sampled=[card for card in cards if card.metrics["train"].n < TRAINING_IMAGES],
        splits=SPLITS,
        peers={peer.name: peer.kind for peers in PEERS.values() for peer in peers},
        peer_accuracy=_peer_accuracy,
        kinds=KINDS,
        people=PEOPLE,
        interval=_with_interval,
        share=_share,
    )


def cards_page(cards: list[ModelCard]) -> str:
    """Renders docs/model-cards.md."""
    shared = [text for text in cards[0].licences if all(text in card.licences for card in cards)]
    return _render(
        "model_cards.md.jinja",
        cards=cards,
        licences=shared,
        details=lambda card: _details(card, shared),
    )


def _details(card: ModelCard, shared_licences: list[str]) -> dict[str, str | float | None]:
    fitted = f", fitted on {card.calibration.n:,} held-out images" if card.calibration else ""
    if card.calibration and card.training.get("calibration_run"):
        fitted += " of an otherwise identical run"
    if seen_by := card.training.get("holdout_seen_by"):
        fitted += f", some of which {', '.join(seen_by)} or a teacher of it had seen"
    scaling = card.power_scaling
    return {
        "file": f"`models/{card.name}.onnx`, SHA-256 `{card.sha256}`",
        "answers with": card.answers,
        "multiply-adds": card.multiply_adds and f"{card.multiply_adds / 1e6:,.1f} million a face",
        "trained on": _training(card),
        "sharpening": "of blurred faces" if card.sharpening else None,
        "mirror averaging": None if card.mirror_averaging else "no",
        "temperature": f"{card.temperature:.3f}{fitted}",
        "power scaling": scaling
        and f"softmax(−{scaling.scale:.3f} (−log p)^{scaling.exponent:.3f})",
        "`low_confidence`": f"answers below a probability of {card.low_confidence_threshold:.3f}",
        "further licences": "; ".join(x for x in card.licences if x not in shared_licences),
    }


def _training(card: ModelCard) -> str:
    images = card.training.get("images")
    trained = f"{images:,} Training images of FER2013" if images else "nothing of its own"
    held_out = card.training.get("holdout_images")
    kept = f", {held_out:,} held out" if held_out else ""
    if hours := card.training.get("hours"):
        kept += f", {card.training['epochs']} epochs in {hours:.1f} hours"
    if start := card.training.get("started_from"):
        kept += f", starting from {start['model'].replace('best.weights.h5', 'an earlier run')}"
    return f"{trained}{kept} ([card](../models/{card.name}.json))"


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("ferserve_export", "."),
        autoescape=False,  # noqa: S701 -- Markdown of our own
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(
        titles=TITLES,
        emotions=EMOTIONS,
        policy=policy(Settings.model_construct()),  # whatever this machine's environment says
        **values,
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _peer_accuracy(name: str, split: str) -> str:
    """A peer's accuracy on a split, %; of the reference project's only that on all images."""
    for peer in PEERS.get(split, ()):
        if peer.name == name and (peer.kind != "reference" or split == "all"):
            return f"{100 * peer.accuracy:.2f}"
    return ""


def _percent(scores: SplitMetrics | VoteScores) -> str:
    return f"{100 * scores.accuracy:.2f}"


def _with_interval(scores: SplitMetrics | VoteScores) -> str:
    low, high = wilson_interval(round(scores.accuracy * scores.n), scores.n)
    return f"{100 * scores.accuracy:.2f} ± {50 * (high - low):.1f}"


if __name__ == "__main__":
    for path, text in pages(ROOT).items():
        path.write_text(text, encoding="utf-8")
