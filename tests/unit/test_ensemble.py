"""The virtual model: what it computes, and which files it refuses."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ferserve.calibration import apply_power_scaling
from ferserve.card import EnsembleMember, ModelCard, PowerScaling
from ferserve.fer2013.labels import EMOTIONS
from ferserve.models import available_models, load_models, read_card
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions
from ferserve.sessions import ModelError
from ferserve.settings import Settings

MODELS = Path(__file__).resolve().parents[2] / "models"

WriteEnsemble = Callable[..., ModelCard]


@pytest.fixture
def folder(write_standin, tmp_path: Path) -> Path:
    write_standin(tmp_path, "first", seed=1)
    write_standin(tmp_path, "second", seed=2, labels=EMOTIONS[::-1])
    card = json.loads((tmp_path / "second.json").read_text())
    (tmp_path / "second.json").write_text(json.dumps(card | {"labels": EMOTIONS[::-1]}))
    return tmp_path


@pytest.fixture
def write_ensemble(folder: Path) -> WriteEnsemble:
    def write(weights: tuple[float, float] = (0.25, 0.75), **changes: Any) -> ModelCard:
        first = read_card(folder, "first")
        members = [
            EnsembleMember(name=name, sha256=read_card(folder, name).sha256, weight=weight)
            for name, weight in zip(("first", "second"), weights, strict=True)
        ]
        card = first.model_copy(update={"name": "both", "members": members} | changes)
        if "sha256" not in changes:
            card.sha256 = card.ensemble_sha256()
        card.write(folder / "both.json")
        return card

    return write


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 48, 48), np.uint8)


def test_it_is_the_weighted_mean_of_its_members(folder, write_ensemble, faces):
    write_ensemble((0.25, 0.75))
    models = load_models(folder, ["first", "second", "both"])
    first, second = (models[name].predict(faces) for name in ("first", "second"))
    expected = 0.25 * first + 0.75 * second[:, ::-1]  # the second has its columns the other way
    np.testing.assert_allclose(models["both"].predict(faces), expected, atol=1e-6)
    assert models["both"].labels == EMOTIONS


def test_its_temperature_sharpens_the_mean(folder, write_ensemble, faces):
    write_ensemble()
    plain = load_models(folder, ["both"])["both"].predict(faces)
    write_ensemble(temperature=0.5)
    sharp = load_models(folder, ["both"])["both"].predict(faces)
    np.testing.assert_allclose(sharp, plain**2 / (plain**2).sum(axis=1, keepdims=True), atol=1e-6)
    assert (sharp.max(axis=1) > plain.max(axis=1)).all()


def test_its_power_scaling_comes_after_its_temperature(folder, write_ensemble, faces):
    write_ensemble(temperature=0.5)
    sharp = load_models(folder, ["both"])["both"].predict(faces)
    scaling = PowerScaling(scale=0.4, exponent=1.7)
    write_ensemble(temperature=0.5, power_scaling=scaling)
    scaled = load_models(folder, ["both"])["both"].predict(faces)
    np.testing.assert_array_equal(scaled, apply_power_scaling(sharp, scaling))
    assert scaled.dtype == np.float32
    assert np.abs(scaled - sharp).max() > 0.01


def test_cards_written_before_power_scaling_keep_their_identity():
    card = read_card(MODELS, "ensemble")
    plain = card.model_copy(update={"power_scaling": None})
    parts = [[part.name, part.sha256, part.weight] for part in card.members or ()]
    known = hashlib.sha256(json.dumps([parts, card.temperature]).encode()).hexdigest()
    assert plain.ensemble_sha256() == known


def test_its_identity_depends_on_its_power_scaling(write_ensemble):
    identities = {
        write_ensemble(power_scaling=scaling).sha256
        for scaling in (
            None,
            PowerScaling(scale=1, exponent=1),
            PowerScaling(scale=1, exponent=2),
            PowerScaling(scale=2, exponent=1),
        )
    }
    assert len(identities) == 4


def test_members_need_not_be_served_themselves(folder, write_ensemble):
    write_ensemble()
    assert list(load_models(folder, ["both"])) == ["both"]


def test_it_is_found_by_its_card_alone(folder, write_ensemble):
    write_ensemble()
    assert available_models(folder) == ["both", "first", "second"]


def test_another_member_file_is_refused(folder, write_ensemble, write_standin):
    write_ensemble()
    write_standin(folder, "second", seed=3)
    with pytest.raises(ModelError, match=r"both\.json was written for another second\.onnx"):
        load_models(folder, ["both"])


def test_a_missing_member_is_refused(folder, write_ensemble):
    write_ensemble()
    (folder / "second.onnx").unlink()
    with pytest.raises(ModelError, match=r"second\.onnx"):
        load_models(folder, ["both"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": (0.25, 0.5)}, "do not sum to 1"),
        ({"sha256": hashlib.sha256(b"").hexdigest()}, "does not belong to its members"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(folder, write_ensemble, changes, message):
    write_ensemble(**changes)
    with pytest.raises(ModelError, match=message):
        load_models(folder, ["both"])


async def test_it_is_served_like_any_other_model(folder, write_ensemble, grey_crop):
    card = write_ensemble()
    (folder / "face_detector.onnx").symlink_to(MODELS / "face_detector.onnx")
    recognizer = AsyncRecognizer(Settings(models_dir=folder, default_model="both"))
    await recognizer.start()
    try:
        answer = await recognizer.answer(grey_crop, EmotionOptions())
    finally:
        await recognizer.close()
    assert (answer.model.name, answer.model.sha256) == ("both", card.sha256)
    assert sum(answer.faces[0].emotions.values()) == pytest.approx(1, abs=1e-5)
