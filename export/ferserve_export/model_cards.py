"""The model cards as a page: docs/model-cards.md, made from models/*.json and the policy.

Run as ``python -m ferserve_export.model_cards``; with ``--check`` it changes nothing, and fails
where the page is stale.
The sections follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import sys
from pathlib import Path

from ferserve.card import ModelCard
from ferserve.policy import policy
from ferserve.settings import Settings

from ferserve_export.results import ROOT, TITLES, template, write_pages

PAGE = Path("docs") / "model-cards.md"


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
    licences = [text for text in cards[0].licences if all(text in card.licences for card in cards)]
    return template("model_cards.md.jinja").render(
        cards=cards,
        licences=licences,
        policy=policy(Settings.model_construct()),  # whatever this machine's environment says
        details=lambda card: _details(card, licences),
        titles=TITLES,
    )


def _details(card: ModelCard, shared_licences: list[str]) -> dict[str, str | float | None]:
    fitted = f", fitted on {card.calibration.n:,} held-out images" if card.calibration else ""
    licences = [text for text in card.licences if text not in shared_licences]
    return {
        "file": f"`models/{card.name}.onnx`, SHA-256 `{card.sha256}`",
        "answers with": card.answers,
        "multiply-adds": card.multiply_adds and f"{card.multiply_adds / 1e6:,.1f} million a face",
        "trained on": _training(card),
        "mirror averaging": None if card.mirror_averaging else "no",
        "temperature": f"{card.temperature:.3f}{fitted}",
        "prior": card.prior_fraction
        and f"{card.prior_fraction:g} of the log share of each emotion subtracted from the logits",
        "power scaling": _power_scaling(card),
        "`low_confidence`": f"answers below a probability of {card.low_confidence_threshold:.3f}",
        "further licences": "; ".join(licences),
    }


def _power_scaling(card: ModelCard) -> str | None:
    """Says what is done to the probabilities p last of all."""
    scaling = card.power_scaling
    return scaling and f"softmax(−{scaling.scale:.3f} (−log p)^{scaling.exponent:.3f})"


def _training(card: ModelCard) -> str:
    images = card.training.get("images")
    trained = f"{images:,} Training images of FER2013" if images else "nothing of its own"
    held_out = card.training.get("holdout_images")
    kept = f", {held_out:,} held out" if held_out else ""
    if hours := card.training.get("hours"):
        kept += f", {card.training['epochs']} epochs in {hours:.1f} hours"
    if start := card.training.get("started_from"):
        kept += f", starting from {start['model']}"
    return f"{trained}{kept} ([card](../models/{card.name}.json))"


if __name__ == "__main__":
    sys.exit(write_pages({ROOT / PAGE: page(ROOT)}, sys.argv[1:]))
