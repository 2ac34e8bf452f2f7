"""The robustness card: each change does what its name says, and the figures are the model's."""

import re
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from ferserve.benchmark.robustness import PERTURBATIONS, recrop, rotate
from ferserve.card import ModelCard
from ferserve.cli import app
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score
from PIL import Image
from synthetic_fer2013 import face, write_votes
from typer.testing import CliRunner


def changed(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.asarray(change(Image.fromarray(pixels)))


@pytest.fixture
def smooth() -> np.ndarray:
    """A ramp, darker to the left and above: what is moved can be told from the values."""
    y, x = np.mgrid[:48, :48]
    return (40 + 2 * x + y).astype(np.uint8)


@pytest.mark.parametrize("change", PERTURBATIONS.values(), ids=PERTURBATIONS)
def test_every_change_gives_a_face_and_leaves_its_input(change):
    before = Image.fromarray(face(3, np.random.default_rng(0)))
    copy = before.copy()
    after = np.asarray(change(before))
    assert (after.shape, after.dtype) == ((48, 48), np.uint8)
    assert before == copy


def test_the_first_condition_is_no_change_and_all_others_are():
    before = face(3, np.random.default_rng(0))
    same = [np.array_equal(changed(before, change), before) for change in PERTURBATIONS.values()]
    assert same == [True] + [False] * (len(PERTURBATIONS) - 1)


def test_a_tighter_crop_enlarges_the_middle(smooth):
    tighter = changed(smooth, lambda face: recrop(face, -4))
    assert tighter[0, 0] == pytest.approx(smooth[4, 4], abs=2)
    assert tighter[24, 24] == pytest.approx(smooth[24, 24], abs=2)


def test_a_wider_crop_repeats_the_edge(smooth):
    wider = changed(smooth, lambda face: recrop(face, 4))
    assert wider[0, 0] == smooth[0, 0]
    assert wider[24, 0] == wider[24, 1] == pytest.approx(smooth[24, 0], abs=2)


def test_rotation_is_about_the_centre_and_counter_clockwise(smooth):
    turned = changed(smooth, lambda face: rotate(face, 90))
    assert np.abs(turned.astype(int) - np.rot90(smooth)).max() <= 2
    turned = changed(smooth, PERTURBATIONS["rotated by +15°"])
    assert turned[24, 24] == pytest.approx(smooth[24, 24], abs=2)
    assert turned.min() >= smooth.min() - 1  # no black corners


def test_blur_keeps_the_mean_and_takes_the_detail():
    noise = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    blurred = changed(noise, PERTURBATIONS["blurred, σ = 1 px"])
    assert blurred.mean() == pytest.approx(noise.mean(), abs=2)
    assert blurred.std() < noise.std() / 2


@pytest.mark.parametrize(
    ("condition", "before", "after"),
    [("40 % brighter", 100, 140), ("40 % darker", 100, 60), ("40 % brighter", 250, 255)],
)
def test_brightness_multiplies_and_clips(condition, before, after):
    greys = np.full((48, 48), before, np.uint8)
    assert changed(greys, PERTURBATIONS[condition])[0, 0] == after


def test_jpeg_and_shrinking_lose_detail_but_keep_the_picture(smooth):
    for condition in ("JPEG, quality 20", "shrunk to 24 px and enlarged"):
        worse = changed(smooth, PERTURBATIONS[condition])
        assert np.abs(worse.astype(int) - smooth).mean() < 4


@pytest.fixture
def robustness(standin_models, small_zip, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for file in standin_models.iterdir():
        (models / file.name).write_bytes(file.read_bytes())

    def run(*arguments: str):
        options = ["--data", small_zip, "--models-dir", models, "--out", tmp_path / "page.md"]
        return CliRunner().invoke(app, ["robustness", *arguments, *map(str, options)])

    run.models, run.page = models, tmp_path / "page.md"
    return run


def test_the_card_holds_what_bare_onnx_runtime_gives(robustness, small_zip):
    path = robustness.models / "first.json"
    before = ModelCard.read(path)
    result = robustness("first")
    assert result.exit_code == 0, result.output
    card = ModelCard.read(path)
    test = read_fer2013(small_zip).test
    session = onnxruntime.InferenceSession(robustness.models / "first.onnx")
    for condition in ("original", "rotated by +15°"):
        faces = np.stack([changed(one, PERTURBATIONS[condition]) for one in test.faces])
        expected = score(session.run(None, {"faces": faces})[0], test.labels).accuracy
        assert card.robustness[condition] == expected
    assert list(card.robustness) == list(PERTURBATIONS)
    assert card.model_copy(update={"robustness": None}) == before


def test_a_model_of_the_votes_is_measured_against_the_majority(robustness, small_zip, tmp_path):
    path = robustness.models / "first.json"
    ModelCard.read(path).model_copy(update={"answers": "FER+ votes"}).write(path)
    test = read_fer2013(small_zip).test
    clear, level = [0, 1, 0, 9, 0, 0, 0, 0, 0, 0], [0, 5, 0, 5, 0, 0, 0, 0, 0, 0]
    names = [name.removesuffix(".jpg") for name in test.ids]
    rows = {name: level if number % 3 else clear for number, name in enumerate(names)}
    votes = write_votes(tmp_path / "ferplus.csv", rows)
    result = robustness("first", "--votes", str(votes))
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(robustness.models / "first.onnx")
    answers = session.run(None, {"faces": test.faces[::3]})[0].argmax(axis=1)
    assert ModelCard.read(path).robustness["original"] == np.mean(answers == 3)
    assert re.search(r"^\| \| first \S+, majority \|$", robustness.page.read_text(), re.M)
    without = robustness("first")
    assert without.exit_code == 1
    assert "--votes" in without.stderr


def test_models_stand_side_by_side_even_if_measured_one_after_another(robustness):
    robustness("first")
    robustness("second")
    page = robustness.page.read_text()
    assert re.search(r"^\| \| first \S+, labels \| second \S+, labels \|$", page, re.M)
    for condition in PERTURBATIONS:
        assert re.search(rf"^\| {re.escape(condition)} \| .+ \| .+ \|$", page, re.M)


def test_a_model_or_data_set_that_is_not_there_is_an_error(robustness, tmp_path):
    unknown = robustness("third")
    assert unknown.exit_code == 1
    assert "third.json" in unknown.stderr
    nothing = CliRunner().invoke(app, ["robustness", "first", "--data", str(tmp_path / "none.zip")])
    assert nothing.exit_code == 1
    assert "none.zip" in nothing.stderr


def test_without_a_folder_for_the_page_nothing_is_measured(robustness, small_zip, monkeypatch):
    monkeypatch.chdir(robustness.models)
    options = ["first", "--data", str(small_zip), "--models-dir", str(robustness.models)]
    result = CliRunner().invoke(app, ["robustness", *options])
    assert result.exit_code == 2
    assert "docs: no such folder" in result.stderr
    assert ModelCard.read(robustness.models / "first.json").robustness is None
