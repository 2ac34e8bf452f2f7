"""The model cards as a page: docs/model-cards.md, made from models/*.json and the policy.

Run as ``python -m ferserve_export.model_cards``; with ``--check`` it changes nothing, and fails
where the page is stale.
The sections follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import sys
from pathlib import Path

from ferserve.card import ModelCard, PowerScaling, SplitMetrics
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import wilson_interval
from ferserve.fer2013.vote_scoring import VoteScores
from ferserve.policy import policy
from ferserve.settings import Settings

from ferserve_export.results import ROOT, SPLITS, TITLES

PAGE = Path("docs") / "model-cards.md"

INTRODUCTION = """\
# Model cards

Made by `make results` from the cards in `models/` and from `GET /v1/policy`; `GET /v1/models` has
the cards for programs. [Results](results.md) says how the figures were measured."""

UNMEASURED = """\
All figures are of FER2013's own faces, through ONNX Runtime, each accuracy with its 95 % interval
(Wilson). Nothing was measured on video, or on faces that the detector cut out of photos."""

INTERFACE = f"""\
**Interface.** A model takes grey faces, `faces` uint8 `[N, 48, 48]`, and gives `probabilities`
float32 `[N, {len(EMOTIONS)}]`: {", ".join(EMOTIONS)}.
The graph averages each face with its mirror image, unless a card says otherwise.
[Training](training.md#export) explains temperature and power scaling."""


def page(root: Path) -> str:
    """Returns the contents that docs/model-cards.md should have.

    Args:
        root: Of the repository.
    """
    known = list(TITLES)
    cards = sorted(
        (ModelCard.read(path) for path in (root / "models").glob("*.json")),
        key=lambda card: (known.index(card.name) if card.name in known else len(known), card.name),
    )
    shared = policy(Settings.model_construct())  # whatever this machine's environment says
    licences = [text for text in cards[0].licences if all(text in card.licences for card in cards)]
    parts = [
        INTRODUCTION,
        f"## For all models\n\n**Meaning.** {shared.meaning}",
        f"**Labels and votes.** {shared.labels_and_votes}",
        "**Intended use.**\n\n" + _list(shared.intended_use),
        "**Not intended for.**\n\n" + _list(shared.not_intended_for),
        "**Limits of the data.**\n\n" + _list(shared.data_set_limits) + "\n\n" + UNMEASURED,
        "**Law.** See [privacy](privacy.md#what-the-law-asks-for).",
        INTERFACE,
        f"**Licences.** {'; '.join(licences)}.",
        *(_section(card, licences) for card in cards),
    ]
    return "\n\n".join(parts) + "\n"


def _section(card: ModelCard, shared_licences: list[str]) -> str:
    parts = [
        f"## {TITLES.get(card.name, card.name)}",
        f"{card.description}. Version {card.version}, {card.parameters:,} weights.",
        _details(card, shared_licences),
        _metrics(card.metrics),
    ]
    if card.votes:
        parts += [
            "**Against people's votes**, the faces whose majority is unique and one of the seven:",
            _votes(card.votes),
        ]
    if card.robustness:
        parts.append(_weakest(card.robustness))
    return "\n\n".join(parts)


def _details(card: ModelCard, shared_licences: list[str]) -> str:
    fitted = f", fitted on {card.calibration.n:,} held-out images" if card.calibration else ""
    licences = [text for text in card.licences if text not in shared_licences]
    rows = {
        "file": f"`models/{card.name}.onnx`, SHA-256 `{card.sha256}`",
        "answers with": card.answers,
        "multiply-adds": card.multiply_adds and f"{card.multiply_adds / 1e6:,.1f} million a face",
        "trained on": _training(card),
        "mirror averaging": None if card.mirror_averaging else "no",
        "temperature": f"{card.temperature:.3f}{fitted}",
        "prior": card.prior_fraction
        and f"{card.prior_fraction:g} of the log share of each emotion subtracted from the logits",
        "power scaling": _power_scaling(card.power_scaling),
        "`low_confidence`": f"answers below a probability of {card.low_confidence_threshold:.3f}",
        "further licences": "; ".join(licences),
    }
    if card.members:
        chosen = f" on {card.calibration.n:,} held-out images" if card.calibration else ""
        rows["trained on"] = f"nothing; the members' weights were chosen{chosen}"
        rows["file"] = f"none: a mean of the members' answers; identity `{card.sha256}`"
        rows["members"] = ", ".join(f"{part.name} × {part.weight:.3f}" for part in card.members)
    lines = [f"| {key} | {text} |" for key, text in rows.items() if text]
    return "\n".join(["| | |", "|---|---|", *lines])


def _power_scaling(scaling: PowerScaling | None) -> str | None:
    """Says what is done to the probabilities p last of all."""
    if not scaling:
        return None
    return f"softmax(−{scaling.scale:.3f} (−log p)^{scaling.exponent:.3f})"


def _training(card: ModelCard) -> str:
    images = card.training.get("images")
    trained = f"{images:,} Training images of FER2013" if images else "nothing of its own"
    held_out = card.training.get("holdout_images")
    kept = f", {held_out:,} held out" if held_out else ""
    if hours := card.training.get("hours"):
        kept += f", {card.training['epochs']} epochs in {hours:.1f} hours"
    if start := card.training.get("started_from"):
        kept += f", starting from {start['model']} (SHA-256 `{start['sha256']}`)"
    return f"{trained}{kept} ([card](../models/{card.name}.json))"


def _metrics(metrics: dict[str, SplitMetrics]) -> str:
    lines = ["| images | n | accuracy, % | macro-F1 | ECE |", "|---|---:|---|---:|---:|"]
    for split, title in SPLITS.items():
        if scores := metrics.get(split):
            low, high = wilson_interval(round(scores.accuracy * scores.n), scores.n)
            lines.append(
                f"| {title} | {scores.n:,} "
                f"| {100 * scores.accuracy:.2f} ({100 * low:.1f}–{100 * high:.1f}) "
                f"| {scores.macro_f1:.3f} | {scores.ece:.3f} |"
            )
    return "\n".join(lines)


def _votes(votes: dict[str, VoteScores]) -> str:
    heads = ["images", "n", "accuracy, %", *(f"recall: {name}" for name in EMOTIONS), "mean"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for split, scores in votes.items():
        recalls = [*(scores.recall.get(name) for name in EMOTIONS), scores.mean_recall]
        shares = ("–" if share is None else f"{100 * share:.1f}" for share in recalls)
        accuracy = f"{100 * (scores.accuracy or 0):.2f}"
        lines.append(f"| {SPLITS[split]} | {scores.n:,} | {accuracy} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _weakest(robustness: dict[str, float]) -> str:
    original, *changed = robustness.items()
    worst = sorted(changed, key=lambda entry: entry[1])[:3]
    losses = "; ".join(
        f"{change} ({100 * (accuracy - original[1]):+.1f})" for change, accuracy in worst
    )
    return (
        f"**Weakest** on poor pictures, in points of accuracy: {losses} "
        "([all conditions](robustness.md))."
    )


def _list(entries: list[str]) -> str:
    return "\n".join(f"- {entry}" for entry in entries)


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` compares it; returns the exit status."""
    path, text = ROOT / PAGE, page(ROOT)
    stale = not path.exists() or path.read_text(encoding="utf-8") != text
    if stale and "--check" not in arguments:
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"changed: {path.name if stale else 'nothing'}\n")
    return int("--check" in arguments and stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
