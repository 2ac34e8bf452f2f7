"""The commands of the service, through the composed ``ferserve``."""

import json

import pytest
from ferserve.card import ModelCard
from ferserve.cli import app
from ferserve.fer2013.labels import EMOTIONS
from ferserve.settings import installed_models
from typer.testing import CliRunner, Result


@pytest.fixture
def ferserve(standin_models, monkeypatch):
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    monkeypatch.setenv("FERSERVE_MODELS_DIR", str(standin_models))
    monkeypatch.setenv("COLUMNS", "200")
    return run


@pytest.fixture
def files(tmp_path, photo, grey_crop):
    contents = {
        "astronaut.jpg": photo("astronaut", format="JPEG"),
        "cat.png": photo("chelsea"),
        "crop.png": grey_crop,
        "text.jpg": b"not an image",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in [*contents, "missing.jpg"]}


def test_the_help_lists_the_commands_of_all_packages(ferserve):
    result = ferserve("--help")
    assert result.exit_code == 0
    own = ("serve", "predict", "models", "benchmark", "robustness", "loadtest", "score")
    for command in (*own, "train", "evaluate", "export", "quantize"):
        assert command in result.stdout


def test_predict_answers_each_file_as_json(ferserve, files):
    names = ["astronaut.jpg", "cat.png", "crop.png"]
    result = ferserve("predict", "--json", *(files[name] for name in names))
    assert result.exit_code == 0
    items = json.loads(result.stdout)
    assert [item["file"] for item in items] == [str(files[name]) for name in names]
    assert [len(item["result"]["faces"]) for item in items] == [1, 0, 1]
    face = items[0]["result"]["faces"][0]
    assert set(face["emotions"]) == set(EMOTIONS)
    assert "landmarks" not in face


def test_a_bad_file_costs_the_exit_status_but_not_the_others(ferserve, files):
    result = ferserve("predict", "--json", *files.values())
    assert result.exit_code == 1
    astronaut, cat, crop, text, missing = json.loads(result.stdout)
    assert all("result" in item for item in (astronaut, cat, crop))
    assert text["problem"]["code"] == "unsupported_media_type"
    assert missing["problem"] == {
        "code": "unreadable_file",
        "detail": "No such file or directory",
    }


def test_predict_prints_a_table(ferserve, files, monkeypatch):
    monkeypatch.chdir(files["astronaut.jpg"].parent)
    files["astronaut.jpg"].rename("[bold]:smile:.jpg")
    result = ferserve("predict", "[bold]:smile:.jpg", "cat.png", "text.jpg")
    assert result.exit_code == 1
    assert "[bold]:smile:.jpg" in result.stdout
    assert any(emotion in result.stdout for emotion in EMOTIONS)
    assert "no face" in result.stdout
    assert "unsupported_media_type" in result.stdout


def test_predict_takes_a_model_and_a_way_to_detect(ferserve, files):
    result = ferserve(
        "predict", "--json", "--model", "second", "--detect", "false", files["cat.png"]
    )
    (item,) = json.loads(result.stdout)
    assert item["result"]["model"]["name"] == "second"
    assert item["result"]["faces"][0]["face_confidence"] is None


def test_an_unknown_model_is_an_error_that_names_those_there_are(ferserve, files):
    result = ferserve("predict", "--model", "third", files["cat.png"])
    assert result.exit_code == 1
    assert "first, second" in result.stderr


def test_models_are_listed_as_a_table_and_as_json(ferserve):
    table = ferserve("models")
    assert table.exit_code == 0
    assert "first" in table.stdout
    assert "FER2013 labels" in table.stdout
    assert "–" in table.stdout  # neither was measured against votes
    cards = json.loads(ferserve("models", "--json").stdout)
    assert [card["name"] for card in cards] == ["first", "second"]


def test_the_table_of_models_fits_eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows[0][:2] == ["crowd (default)", "FER+ votes"]
    assert rows[1][:2] == ["custom_cnn", "FER2013 labels"]
    for name, row in (("crowd", rows[0]), ("custom_cnn", rows[1])):
        card = ModelCard.read(installed_models() / f"{name}.json")
        measured = (card.metrics["all"], card.metrics["leak_free"], card.votes["private"])
        assert row[2:] == [f"{scores.accuracy:.1%}" for scores in measured]


@pytest.mark.parametrize("name", ["MAX_BATCH", "PROVIDER_OPTIONS"])
def test_a_wrong_setting_is_an_error_without_a_traceback(ferserve, monkeypatch, name):
    monkeypatch.setenv(f"FERSERVE_{name}", "none")
    result = ferserve("models")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert name.lower() in line
