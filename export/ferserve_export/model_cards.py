"""The model cards as a page: docs/model-cards.md, made from models/*.json and the policy.

Run as ``python -m ferserve_export.model_cards``; with ``--check`` it changes nothing, and fails
where the page is stale.
The sections follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import sys
from pathlib import Path

from ferserve.card import ModelCard, PowerScaling, SplitMetrics
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.statistics import wilson_interval
from ferserve.fer2013.vote_scoring import VoteScores
from ferserve.policy import policy
from ferserve.settings import Settings

from ferserve_export.results import ROOT, SPLITS, TITLES

PAGE = Path("docs") / "model-cards.md"

INTRODUCTION = """\
# Model cards

Made by `python -m ferserve_export.model_cards` from the cards in `models/` and from the policy that
the service answers at `GET /v1/policy`; `GET /v1/models` has the cards for programs. How the
figures were measured, and those of other projects, is on [the results page](results.md)."""

UNMEASURED = """\
All figures are of FER2013's own faces. Nothing was measured on video, or on photos from which the
face detector cut the faces."""


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
    parts = [
        INTRODUCTION,
        f"## For all models\n\n**Meaning.** {shared.meaning}",
        f"**Labels and votes.** {shared.labels_and_votes}",
        "**Intended use.**\n\n" + _list(shared.intended_use),
        "**Not intended for.**\n\n" + _list(shared.not_intended_for),
        "**Limits of the data.**\n\n" + _list(shared.data_set_limits) + "\n\n" + UNMEASURED,
        "**Law.**\n\n"
        + _list([f"{rule.reference}, from {rule.applies_from}: {rule.says}" for rule in shared.law])
        + "\n\nMore in [privacy](privacy.md).",
        *(_section(card) for card in cards),
    ]
    return "\n\n".join(parts) + "\n"


def _section(card: ModelCard) -> str:
    parts = [
        f"## {TITLES.get(card.name, card.name)}",
        f"{card.description}.",
        _details(card),
        "**Measured** on FER2013 through ONNX Runtime, with the 95 % interval (Wilson) of each "
        "accuracy:",
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


def _details(card: ModelCard) -> str:
    fitted = f", fitted on {card.calibration.n:,} held-out images" if card.calibration else ""
    rows = {
        "version": card.version,
        "file": f"`models/{card.name}.onnx`, SHA-256 `{card.sha256}`",
        "takes": "grey faces of 48×48 pixels, `faces` uint8 `[N, 48, 48]`",
        "gives": f"`probabilities` float32 `[N, {len(card.labels)}]`: {', '.join(card.labels)}",
        "answers with": card.answers,
        "weights": f"{card.parameters:,}",
        "multiply-adds": card.multiply_adds and f"{card.multiply_adds / 1e6:,.1f} million a face",
        "trained on": _training(card),
        "mirror averaging": "yes: each face is averaged with its mirror image, in the graph"
        if card.mirror_averaging
        else "no",
        "temperature": f"{card.temperature:.3f}{fitted}",
        "prior": card.prior_fraction
        and f"{card.prior_fraction:g} of the log share of each emotion subtracted from the logits",
        "power scaling": _power_scaling(card.power_scaling),
        "`low_confidence`": f"answers below a probability of {card.low_confidence_threshold:.3f}",
        "licences": "; ".join(card.licences),
    }
    if card.members:
        chosen = f" on {card.calibration.n:,} held-out images" if card.calibration else ""
        rows["trained on"] = f"nothing of its own; the members' weights were chosen{chosen}"
        rows["file"] = f"none: a mean of the members' answers; identity `{card.sha256}`"
        rows["members"] = ", ".join(f"{part.name} × {part.weight:.3f}" for part in card.members)
    lines = [f"| {key} | {text} |" for key, text in rows.items() if text]
    return "\n".join(["| | |", "|---|---|", *lines])


def _power_scaling(scaling: PowerScaling | None) -> str | None:
    """Says what is done to the probabilities p last of all."""
    if not scaling:
        return None
    return (
        f"softmax(−{scaling.scale:.3f} (−log p)^{scaling.exponent:.3f}), "
        "fitted after the temperature; no emotion changes its rank"
    )


def _training(card: ModelCard) -> str:
    images = card.training.get("images")
    trained = f"{images:,} Training images of FER2013" if images else "nothing of its own"
    held_out = card.training.get("holdout_images")
    kept = f", {held_out:,} held out" if held_out else ""
    if hours := card.training.get("hours"):
        kept += f", {card.training['epochs']} epochs in {hours:.1f} hours"
    if start := card.training.get("started_from"):
        kept += f", starting from {start['model']} (SHA-256 `{start['sha256']}`)"
    return f"{trained}{kept}; everything in [its card](../models/{card.name}.json)"


def _metrics(metrics: dict[str, SplitMetrics]) -> str:
    lines = ["| images | n | accuracy, % | macro-F1 | ECE |", "|---|---:|---|---:|---:|"]
    for split, title in SPLITS.items():
        if scores := metrics.get(split):
            low, high = wilson_interval(round(scores.accuracy * scores.n), scores.n)
            lines.append(
                f"| {title} | {scores.n:,} "
                f"| {100 * scores.accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f}) "
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
        f"**Weakest** where pictures are poor; points of accuracy: {losses}. All conditions are on "
        "[the robustness page](robustness.md)."
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
