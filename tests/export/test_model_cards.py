"""docs/model-cards.md is made of the committed cards and of the policy that the service answers."""

import json
import shutil
from pathlib import Path

import pytest
from ferserve.card import ModelCard, PowerScaling
from ferserve.policy import policy
from ferserve.settings import Settings
from ferserve_export.results import cards_page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for path in (ROOT / "models").glob("*.json"):
        shutil.copy(path, tmp_path / "models")
    return tmp_path


def page(root: Path) -> str:
    return cards_page([ModelCard.read(path) for path in (root / "models").glob("*.json")])


def test_every_model_has_its_card_and_all_share_the_policy(copy):
    text = page(copy)
    for path in (copy / "models").glob("*.json"):
        card = ModelCard.read(path)
        assert card.sha256 in text
    for sentence in (policy(Settings()).meaning, *policy(Settings()).not_intended_for):
        assert sentence in text


def test_another_figure_makes_another_page(copy):
    path = copy / "models" / "custom_cnn.json"
    document = json.loads(path.read_text())
    document["low_confidence_threshold"] = 0.54321
    path.write_text(json.dumps(document))
    assert "below a probability of 0.543" in page(copy)
    assert "below a probability of 0.543" not in (ROOT / "docs" / "model-cards.md").read_text()


def test_power_scaling_is_named_where_there_is_any(copy):
    path = copy / "models" / "custom_cnn.json"
    card = ModelCard.read(path)
    for scaling, times in ((None, 0), (PowerScaling(scale=0.38651, exponent=1.67565), 1)):
        card.power_scaling = scaling
        card.write(path)
        (section,) = [s for s in page(copy).split("\n## ") if s.startswith("Custom CNN")]
        assert section.count("- power scaling: softmax(−0.387 (−log p)^1.676)") == times
