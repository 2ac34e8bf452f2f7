"""The tables of README.md and docs/results.md are those of the committed artefacts."""

import json
import shutil
from pathlib import Path

import pytest
from ferserve.card import ModelCard
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import VoteScores
from ferserve.policy import policy
from ferserve.settings import Settings
from ferserve_export import ExportError
from ferserve_export.results import BEGIN, END, between_marks, pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "README.md", tmp_path)
    for folder in ("models", "docs/results"):
        (tmp_path / folder).mkdir(parents=True)
        for path in (ROOT / folder).glob("*.json"):
            shutil.copy(path, tmp_path / folder)
    return tmp_path


def test_committed_pages_are_up_to_date():
    for path, text in pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text


def test_every_committed_model_has_its_row_and_section(copy: Path):
    readme, page, _ = pages(copy).values()
    for path in (copy / "models").glob("*.json"):
        card = ModelCard.read(path)
        shown = f"**{100 * card.metrics['all'].accuracy:.2f}**"
        assert shown in readme.partition(BEGIN)[2].partition(END)[0]
        assert f"results/{card.name}.png" in page


def test_another_accuracy_changes_the_tables(copy: Path):
    before = pages(copy)
    for path in (copy / "models" / "custom_cnn.json", copy / "docs/results/custom_cnn.json"):
        document = json.loads(path.read_text())
        document.get("metrics", document)["all"]["accuracy"] = 0.12345
        path.write_text(json.dumps(document))
    after = pages(copy)
    for path in list(before)[:2]:
        assert "12.3" in after[path]
        assert "12.3" not in before[path]


def test_what_people_would_say_stands_on_the_page_with_every_recall(copy: Path):
    path = copy / "models" / "custom_cnn.json"
    recall = {name: 0.6 + i / 100 for i, name in enumerate(EMOTIONS)}
    votes = VoteScores(
        n=3349, accuracy=0.71234, recall=recall, mean_recall=0.63, n_shares=3500,
        cross_entropy=1.2345, js_distance=0.3456, ece=0.0456,
    )  # fmt: skip
    card = ModelCard.read(path)
    card.votes = {"private": votes}
    card.write(path)
    page = results_page(copy)
    section = page.partition("## People's votes")[2].partition("\n## ")[0]
    assert "n = 3,349" in section
    (row,) = [line for line in section.splitlines() if line.startswith("| Custom CNN")]
    recalls = " | ".join(f"{60 + i:.1f}" for i in range(7))
    assert row == (
        f"| Custom CNN | FER2013 labels | 71.23 ± 1.5 | 63.0 | {recalls} | 1.234 | 0.346 | 0.046 |"
    )
    assert policy(Settings()).labels_and_votes in section
    assert "| 71.23 |" in pages(copy)[copy / "README.md"]


def test_a_report_of_another_model_is_refused(copy: Path):
    path = copy / "docs" / "results" / "custom_cnn.json"
    report = json.loads(path.read_text())
    report["private"]["accuracy"] += 0.01
    path.write_text(json.dumps(report))
    with pytest.raises(ExportError, match=r"custom_cnn\.json is not of the model"):
        pages(copy)


def results_page(copy: Path) -> str:
    return pages(copy)[copy / "docs" / "results.md"]


def test_only_what_stands_between_the_marks_is_replaced():
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_marks(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ExportError, match="expected"):
        between_marks("no marks", "new")
