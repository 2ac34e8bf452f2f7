"""`ferserve evaluate`: the same figures from an ONNX file and from a run's Keras weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ferserve.card import ModelCard
from ferserve.cli import app
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score
from ferserve.fer2013.votes import Votes
from ferserve_training import TrainingError
from ferserve_training.evaluate import BATCH, evaluate, open_model, remembering, sample
from ferserve_training.evaluation_page import write_report
from power_scaling import apply_power_scaling
from scipy.special import softmax
from synthetic_fer2013 import write_votes
from training_runs import run_ferserve
from typer.testing import CliRunner, Result


def always(emotion: int):
    return lambda faces: np.tile(np.eye(7, dtype=np.float32)[emotion], (len(faces), 1))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_every_split_is_scored_with_its_interval(small_zip: Path):
    report = evaluate(always(3), read_fer2013(small_zip))
    assert list(report) == ["all", "public", "private", "leak_free", "train"]
    assert report["all"]["n"] == 56
    assert report["all"]["accuracy"] == pytest.approx(1 / 7)
    low, high = report["all"]["interval"]
    assert low < 1 / 7 < high
    assert report["private"]["per_class"]["happy"]["recall"] == 1
    assert np.sum(report["train"]["confusion"]) == 140
    assert "votes" not in report["private"]


def test_where_all_test_images_are_training_images_none_is_leak_free(small_zip: Path):
    dataset = read_fer2013(small_zip)
    dataset = replace(dataset, public=dataset.train, private=dataset.train)
    assert list(evaluate(always(3), dataset)) == ["all", "public", "private", "train"]


def test_training_can_be_scored_on_a_sample(small_zip: Path):
    dataset = read_fer2013(small_zip)
    report = evaluate(always(3), dataset, ["private", "train"], train_faces=30)
    assert (report["private"]["n"], report["train"]["n"]) == (28, 30)
    drawn = sample(dataset.train, 30)
    assert report["train"]["per_class"]["happy"]["support"] == np.sum(drawn.labels == 3)
    assert sample(dataset.train, 10).ids == drawn.ids[:10]


def test_a_run_and_its_export_differ_by_the_calibration_alone(
    jax_run: Path, exported: Path, small_zip: Path
):
    faces = read_fer2013(small_zip).test.faces
    of_run = open_model(jax_run)
    card = ModelCard.read(exported / "custom_cnn.json")
    views = [of_run(faces), of_run(np.ascontiguousarray(faces[:, :, ::-1]))]
    mean = np.mean([softmax(np.log(v) / card.temperature, axis=1) for v in views], axis=0)
    expected = apply_power_scaling(mean, card.power_scaling)
    assert np.abs(open_model(exported / "custom_cnn.onnx")(faces) - expected).max() < 1e-4


def test_command_writes_figures_and_page(exported: Path, small_zip: Path, tmp_path: Path):
    arguments = ["custom_cnn", "--data", small_zip, "--models-dir", exported, "--out", tmp_path]
    result = run_ferserve("evaluate", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "custom_cnn.json").read_text())
    dataset = read_fer2013(small_zip)
    rows = open_model(exported / "custom_cnn.onnx")(dataset.test.faces)
    assert report["all"]["accuracy"] == score(rows, dataset.test.labels).accuracy
    assert (tmp_path / "custom_cnn.png").read_bytes().startswith(b"\x89PNG")


def test_table_shows_the_chosen_split_only(exported: Path, small_zip: Path):
    model = exported / "custom_cnn.onnx"
    result = run(model, "--data", small_zip, "--split", "private")
    assert "private" in result.stdout
    assert "public" not in result.stdout


def test_votes_add_their_figures_to_every_split(small_zip: Path):
    dataset = read_fer2013(small_zip)
    happy = dataset.private.ids[0].removesuffix(".jpg")
    votes = Votes({happy: np.array([0, 0, 0, 8, 0, 0, 2, 0, 0, 0])})
    report = evaluate(always(3), dataset, votes=votes)
    figures = {name: scores["votes"] for name, scores in report.items()}
    assert [figures[name]["n"] for name in ("all", "public", "private", "train")] == [1, 0, 1, 0]
    assert figures["private"]["accuracy"] == 1
    assert figures["private"]["reliability"][-1]["accuracy"] == pytest.approx(0.8)
    assert figures["public"]["accuracy"] is None
    json.dumps(report, allow_nan=False)


@pytest.fixture(scope="module")
def standin(write_standin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_standin(tmp_path_factory.mktemp("models"), "standin")


def test_a_named_model_comes_from_the_folder_of_the_settings(
    standin: Path, small_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERSERVE_MODELS_DIR", str(standin.parent))
    result = run(standin.stem, "--data", small_zip, "--split", "private", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"private"}


@pytest.fixture(scope="module")
def votes_csv(small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people who agree with the label of every private face."""
    private = read_fer2013(small_zip).private
    counts = 10 * np.eye(10, dtype=int)[private.labels]
    rows = {name.removesuffix(".jpg"): row for name, row in zip(private.ids, counts, strict=True)}
    return write_votes(tmp_path_factory.mktemp("votes") / "ferplus.csv", rows)


def test_command_adds_the_figures_of_votes_to_its_json(
    standin: Path, small_zip: Path, votes_csv: Path
):
    arguments = ("--data", small_zip, "--votes", votes_csv, "--split", "private")
    result = run(standin, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)["private"]
    assert scores["votes"]["n"] == scores["votes"]["n_shares"] == scores["n"]
    assert scores["votes"]["accuracy"] == scores["accuracy"]
    assert scores["votes"]["recall"]["happy"] == scores["per_class"]["happy"]["recall"]


def test_command_prints_a_table_of_votes(standin: Path, small_zip: Path, votes_csv: Path):
    chosen = ("--split", "private", "--split", "public")
    result = run(standin, "--data", small_zip, "--votes", votes_csv, *chosen)
    assert result.exit_code == 0, result.stderr
    _, table = result.stdout.split("Against people's votes")
    assert "distance" in table
    private, public = (next(r for r in table.splitlines() if s in r) for s in chosen[1::2])
    assert " 28 " in private
    assert "none" in public


def test_command_completes_the_card_and_leaves_the_file(
    write_standin, small_zip: Path, votes_csv: Path, tmp_path: Path
):
    write_standin(tmp_path, "standin")
    before = ModelCard.read(tmp_path / "standin.json")
    arguments = ("standin", "--data", small_zip, "--models-dir", tmp_path, "--update-card")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--update-card goes with --votes" in refused.stderr
    result = run(*arguments, "--votes", votes_csv, "--split", "private", "--json")
    assert result.exit_code == 0, result.stderr
    after = ModelCard.read(tmp_path / "standin.json")
    scores = json.loads(result.stdout)["private"]["votes"]
    assert after.votes["private"].accuracy == scores["accuracy"]
    assert after.votes["private"].recall == scores["recall"]
    assert after.multiply_adds == 12 * 12 * 8 * 5 * 5 + 8 * 12 * 12 * 7
    assert after.answers == "FER2013 labels"
    unchanged = {"votes": None, "multiply_adds": None}
    assert after.model_copy(update=unchanged) == before


def test_votes_that_cannot_be_read_end_the_command(standin: Path, small_zip: Path, tmp_path: Path):
    result = run(standin, "--data", small_zip, "--votes", tmp_path / "nowhere.csv")
    assert result.exit_code == 1
    assert result.stderr.startswith("ferserve: ")
    assert "nowhere.csv: no such file or directory" in result.stderr


def test_unknown_split_and_missing_model_are_named(small_zip: Path, tmp_path: Path):
    result = run("custom_cnn", "--data", small_zip, "--split", "validation")
    assert result.exit_code == 1
    assert "unknown split validation; known: all, public" in result.stderr
    with pytest.raises(TrainingError, match=r"none\.onnx: expected an ONNX file"):
        open_model(tmp_path / "none.onnx")


def test_a_file_that_cannot_be_served_ends_the_command(
    standin: Path, small_zip: Path, tmp_path: Path
):
    (tmp_path / "cut.onnx").write_bytes(standin.read_bytes()[:-100])
    card = standin.with_suffix(".json").read_text().replace(standin.stem, "cut")
    (tmp_path / "cut.json").write_text(card)
    result = run(tmp_path / "cut.onnx", "--data", small_zip)
    assert result.exit_code == 1
    assert "the file is damaged or belongs to another card" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_no_training_faces_are_too_few(small_zip: Path):
    result = run("custom_cnn", "--data", small_zip, "--train-faces", 0)
    assert result.exit_code == 2
    assert "--train-faces" in result.stderr


def test_a_page_with_the_run_s_history_has_its_learning_curve(small_zip: Path, tmp_path: Path):
    report = evaluate(always(3), read_fer2013(small_zip), ["all"])
    history = tmp_path / "history.csv"

    def page() -> bytes:
        write_report("first", report, tmp_path / "results", history)
        return (tmp_path / "results" / "first.png").read_bytes()

    without = page()
    history.write_text("epoch,accuracy,val_accuracy\n1,0.3,0.2\n2,0.4,0.3\n")
    assert page() != without


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 48, 48), np.uint8)


class Counting:
    """Answers with the first pixels of a face, and keeps count of what it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        self.batches.append(len(faces))
        return faces[:, 0, :7].astype(np.float32)


def test_faces_keep_their_order_in_batches(faces: np.ndarray):
    model = Counting()
    rows = remembering(model)(faces)
    assert (rows == faces[:, 0, :7]).all()
    assert model.batches == [BATCH] * 9 + [150 - 9 * BATCH]


def test_a_face_is_asked_about_once(faces: np.ndarray):
    model = Counting()
    predict = remembering(model)
    predict(faces[:20])
    again = faces[[5, 30, 5, 30, 19]]
    assert (predict(again) == again[:, 0, :7]).all()
    assert sum(model.batches) == 21


def test_no_faces_have_no_rows():
    assert remembering(Counting())(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)
