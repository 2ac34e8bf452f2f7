"""`ferserve export ensemble`: weights, temperature and card from exported models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score
from ferserve.models import load_models, read_card
from ferserve_export.calibrate import confidence_threshold
from ferserve_export.ensemble import fit_weights
from ferserve_training.holdout import split_training
from training_runs import run_export


def answers(rng: np.random.Generator, labels: np.ndarray, sharpness: float) -> np.ndarray:
    """Probabilities of a model that is right the more often the sharper it is."""
    logits = rng.normal(0, 1, (len(labels), 7))
    logits[np.arange(len(labels)), labels] += sharpness
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 7, 5000)


def test_the_better_model_weighs_more(labels):
    rng = np.random.default_rng(1)
    rows = np.stack([answers(rng, labels, sharpness) for sharpness in (0.2, 2.0)])
    weak, strong = fit_weights(rows, labels)
    assert weak + strong == pytest.approx(1)
    assert strong > 0.8


def test_equal_models_share_alike(labels):
    rng = np.random.default_rng(1)
    rows = np.stack([answers(rng, labels, 1.5) for _ in range(3)])
    assert fit_weights(rows, labels) == pytest.approx([1 / 3] * 3, abs=0.05)


def test_weights_are_those_of_the_highest_likelihood(labels):
    rng = np.random.default_rng(2)
    rows = np.stack([answers(rng, labels, sharpness) for sharpness in (1.0, 1.5)])

    def likelihood(share: float) -> float:
        mean = share * rows[0] + (1 - share) * rows[1]
        return float(np.log(mean[np.arange(len(labels)), labels]).mean())

    best = max(np.linspace(0, 1, 201), key=likelihood)
    assert fit_weights(rows, labels)[0] == pytest.approx(best, abs=0.01)


@pytest.fixture(scope="module")
def members(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exported Custom CNN, and again as if it were another model."""
    folder = tmp_path_factory.mktemp("members")
    for suffix in ("onnx", "json"):
        for name in ("custom_cnn", "other"):
            shutil.copy(exported / f"custom_cnn.{suffix}", folder / f"{name}.{suffix}")
    card = json.loads((folder / "other.json").read_text())
    (folder / "other.json").write_text(json.dumps(card | {"name": "other"}))
    return folder


def export(folder: Path, data: Path, *more: str) -> str:
    names = ("--member", "custom_cnn", "--member", "other")
    run = folder / "runs" / "ensemble"
    result = run_export("ensemble", "--data", data, "--out", folder, "--run", run, *names, *more)
    return result.stdout + result.stderr


def test_card_says_what_the_served_ensemble_does(members: Path, small_zip: Path):
    output = export(members, small_zip, "--results", str(members / "results"))
    card = read_card(members, "ensemble")
    assert f"sha256 {card.sha256}" in output
    dataset = read_fer2013(small_zip)
    rows = load_models(members, ["ensemble"])["ensemble"].predict(dataset.test.faces)
    assert card.metrics["all"].accuracy == score(rows, dataset.test.labels).accuracy
    assert card.metrics["all"].ece == pytest.approx(score(rows, dataset.test.labels).ece, abs=1e-4)
    _, holdout = split_training(dataset.train, 0.1, None, 0)
    assert card.calibration is not None
    assert card.calibration.n == len(holdout)
    assert card.power_scaling is not None
    assert f"power scaling: {card.power_scaling}" in output
    served = load_models(members, ["ensemble"])["ensemble"].predict(holdout.faces)
    expected = confidence_threshold(served, np.eye(7)[holdout.labels])
    assert card.low_confidence_threshold == pytest.approx(expected, abs=1e-4)
    report = json.loads((members / "results" / "ensemble.json").read_text())
    assert report["private"]["accuracy"] == card.metrics["private"].accuracy


def test_a_member_fitted_to_everything_has_an_equal_share(members: Path, small_zip: Path):
    path = members / "other.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"training": before["training"] | {"holdout_share": 0}}))
    try:
        export(members, small_zip)
        card = read_card(members, "ensemble")
    finally:
        path.write_text(json.dumps(before))
    assert [part.weight for part in card.members or ()] == [0.5, 0.5]
    assert card.training["chosen_on"]["members"] == ["custom_cnn"]


def test_different_hold_outs_are_refused(members: Path, small_zip: Path):
    path = members / "other.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"training": before["training"] | {"seed": 1}}))
    try:
        assert "different hold-outs" in export(members, small_zip)
    finally:
        path.write_text(json.dumps(before))
