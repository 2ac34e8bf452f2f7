"""One run with two heads makes two models: one of the labels and one of people's votes."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ferserve.card import ModelCard
from ferserve.fer2013.reader import Fer2013, Split, read_fer2013
from ferserve.fer2013.scoring import score_votes
from ferserve.fer2013.votes import Votes, emotion_shares
from ferserve_export.calibrate import fit_temperature, mean_probabilities
from ferserve_export.pipeline import ExportError, export_run
from ferserve_training import TrainingError
from ferserve_training.evaluate import open_model
from ferserve_training.holdout import split_training
from ferserve_training.networks import build_network
from ferserve_training.recipes import RECIPES
from ferserve_training.released import load_start
from ferserve_training.run_folder import RunFolder, load_network
from power_scaling import apply_power_scaling


@pytest.fixture(scope="module")
def dataset(small_zip: Path) -> Fer2013:
    return read_fer2013(small_zip)


@pytest.fixture(scope="module")
def votes(dataset: Fer2013) -> Votes:
    """Ten people a face; some see none of the seven emotions."""
    rng = np.random.default_rng(0)
    chances = np.array([4, 4, 1, 4, 4, 4, 9, 1, 1, 1]) / 33
    ids = (*dataset.train.ids, *dataset.test.ids)
    return Votes({name.removesuffix(".jpg"): rng.multinomial(10, chances) for name in ids})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What a run of the light network leaves; its weights are random."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "light")
    description = {
        "recipe": asdict(replace(RECIPES["light"]["default"], sharpen=True)),
        "votes_sha256": "0" * 64,
        "holdout_share": 0.1,
        "limit": None,
        "seed": 0,
    }
    folder.open(description, resume=False)
    folder.history.write_text("epoch,seconds\n1,1800.0\n2,5400.0\n")
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    network = build_network("light", heads=2, sharpen=True)
    kernel = network.get_layer("logits").kernel
    kernel.assign(np.random.default_rng(0).normal(0, 1, kernel.shape))
    network.save_weights(folder.weights)
    return folder


def export(name: str, run: RunFolder, dataset: Fer2013, out: Path, **options: Any) -> ModelCard:
    settings = {
        "version": "1.0.0", "mirror": True, "int8": False,
        "votes": None, "calibration_run": None, "train_faces": None, "results": None, "log": print,
    }  # fmt: skip
    return export_run(name, run.root, dataset, out, **(settings | options))


@pytest.fixture(scope="module", autouse=True)
def few_faces_for_parity() -> Iterator[None]:
    """Enough for both batches; an export compares ten times as many, one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ferserve_export.pipeline.PARITY_FACES", 7)
        yield


@pytest.fixture(scope="module")
def models(run, dataset, votes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("light", "crowd"):
        export(name, run, dataset, folder, votes=votes)
    return folder


def holdout_of(dataset: Fer2013) -> Split:
    return split_training(dataset.train, 0.1, None, 0)[1]


@pytest.mark.parametrize(
    ("name", "answers"), [("light", "FER2013 labels"), ("crowd", "FER+ votes")]
)
def test_each_model_answers_with_its_own_head(models, run, dataset, name: str, answers: str):
    card, faces = ModelCard.read(models / f"{name}.json"), dataset.public.faces
    network = load_network(run, answers)
    views = [np.asarray(network(v, training=False)) for v in (faces, faces[:, :, ::-1])]
    expected = apply_power_scaling(mean_probabilities(views, card.temperature), card.power_scaling)
    assert np.allclose(open_model(models / f"{name}.onnx")(faces), expected, atol=1e-4)


def test_the_votes_head_is_calibrated_on_the_shares_of_people(models, run, dataset, votes):
    holdout = holdout_of(dataset)
    network = load_network(run, "FER+ votes")
    faces = holdout.faces
    views = [np.asarray(network(v, training=False)) for v in (faces, faces[:, :, ::-1])]
    card = ModelCard.read(models / "crowd.json")
    expected = fit_temperature(views, emotion_shares(votes.of(holdout)))
    assert card.temperature == pytest.approx(expected, rel=1e-3)
    assert card.calibration.n == len(holdout)


def test_the_cards_say_what_answers_and_what_it_costs(models):
    light, crowd = (ModelCard.read(models / f"{name}.json") for name in ("light", "crowd"))
    assert (light.answers, crowd.answers) == ("FER2013 labels", "FER+ votes")
    assert light.training["hours"] == crowd.training["hours"] == 2.0
    assert light.parameters == crowd.parameters == build_network("light").count_params()
    assert light.multiply_adds == crowd.multiply_adds < 61e6
    assert light.sharpening
    assert crowd.sharpening
    assert "votes head of light" in crowd.description
    assert any("FER+ votes" in licence for licence in crowd.licences)


def test_the_cards_and_the_files_have_the_figures_of_the_votes(models, dataset, votes):
    import onnx

    card = ModelCard.read(models / "crowd.json")
    rows = open_model(models / "crowd.onnx")(dataset.private.faces)
    expected, _ = score_votes(rows, votes.of(dataset.private))
    assert set(card.votes) == {"public", "private"}
    assert card.votes["private"].accuracy == expected.accuracy
    assert card.votes["private"].recall == expected.recall
    metadata = {p.key: p.value for p in onnx.load(models / "crowd.onnx").metadata_props}
    assert metadata["answers"] == "FER+ votes"
    assert json.loads(metadata["votes"])["private"]["n"] == expected.n


def test_a_run_without_a_hold_out_is_calibrated_by_another_of_its_recipe(
    models, run, dataset, votes, tmp_path: Path
):
    whole = RunFolder(tmp_path / "run")
    whole.open(run.read_description() | {"holdout_share": 0}, resume=False)
    shutil.copy(run.weights, whole.weights)
    assert export("crowd", whole, dataset, tmp_path, votes=votes).calibration is None
    card = export("crowd", whole, dataset, tmp_path, votes=votes, calibration_run=run.root)
    expected = ModelCard.read(models / "crowd.json")
    assert (card.temperature, card.calibration) == (expected.temperature, expected.calibration)
    other, described = RunFolder(tmp_path / "other"), run.read_description()
    other.open(described | {"recipe": described["recipe"] | {"epochs": 1}}, resume=False)
    shutil.copy(run.weights, other.weights)
    with pytest.raises(ExportError, match="a run of another recipe"):
        export("light", whole, dataset, tmp_path, calibration_run=other.root)
    with pytest.raises(ExportError, match="it has no hold-out"):
        export("light", whole, dataset, tmp_path, calibration_run=whole.root)


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset_sha256": "0" * 64},
        {"holdout_sha256": "0" * 64},
        {"dataset_sha256": "0" * 64, "holdout_share": 0},
    ],
    ids=["dataset", "hold-out", "dataset, without a hold-out"],
)
def test_a_run_on_other_data_is_not_exported(run, dataset, tmp_path: Path, changed: dict):
    other = RunFolder(tmp_path / "run")
    other.open(run.read_description() | changed, resume=False)
    shutil.copy(run.weights, other.weights)
    with pytest.raises(ExportError, match="its data are not those of --data"):
        export("light", other, dataset, tmp_path)


def test_crowd_needs_votes_and_a_run_that_learned_from_them(run, dataset, votes, tmp_path: Path):
    with pytest.raises(ExportError, match="crowd answers as people voted: it needs --votes PATH"):
        export("crowd", run, dataset, tmp_path)
    labels_only = RunFolder(tmp_path / "run")
    labels_only.open(run.read_description() | {"recipe": {"network": "light"}}, resume=False)
    build_network("light").save_weights(labels_only.weights)
    with pytest.raises(TrainingError, match="it learned from no votes"):
        export("crowd", labels_only, dataset, tmp_path, votes=votes)


@pytest.mark.parametrize(
    ("name", "answers"), [("light", "FER2013 labels"), ("crowd", "FER+ votes")]
)
def test_weights_come_back_out_of_the_file(models, run, dataset, name: str, answers: str):
    faces = dataset.train.faces
    network = build_network("light", sharpen=True)
    load_start(network, models / f"{name}.onnx", faces)
    rows, expected = (
        np.asarray(n(faces[:8], training=False)) for n in (network, load_network(run, answers))
    )
    assert np.allclose(rows, expected, atol=1e-4)
