"""Power scaling: what it changes, and what it must not."""

import json
from pathlib import Path

import numpy as np
import pytest
from ferserve.card import ModelCard, PowerScaling
from ferserve_export.calibrate import power_scaled
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

MODELS = Path(__file__).resolve().parents[2] / "models"

LIKELY = PowerScaling(scale=0.4, exponent=1.7)

scalings = st.builds(PowerScaling, scale=st.floats(0.05, 20), exponent=st.floats(1 / 3, 3))
odds = arrays(np.float64, (1, 7), elements=st.floats(1e-6, 1))


def test_scale_and_exponent_one_change_nothing():
    rows = np.array([[0.7, 0.1, 0.1, 0.1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], np.float32)
    same = power_scaled(rows, PowerScaling(scale=1, exponent=1)).numpy()
    np.testing.assert_allclose(same, rows, atol=1e-7)
    assert same.dtype == np.float32


@given(odds)
def test_exponent_one_is_a_temperature(odds: np.ndarray):
    rows = odds / odds.sum()
    scaled = power_scaled(rows, PowerScaling(scale=2.5, exponent=1)).numpy()
    np.testing.assert_allclose(scaled, rows**2.5 / (rows**2.5).sum(), atol=1e-6)


@given(odds, scalings)
def test_no_emotion_overtakes_another(odds: np.ndarray, scaling: PowerScaling):
    rows = odds / odds.sum()
    scaled = power_scaled(rows, scaling).numpy()
    assert scaled.sum() == pytest.approx(1)
    assert (np.diff(scaled[0, np.argsort(rows[0])]) >= -1e-10).all()  # equal ones are rounded


def test_a_higher_exponent_leaves_less_to_the_unlikely():
    rows = np.array([[0.5, 0.3, 0.1, 0.04, 0.03, 0.02, 0.01]])
    scaled = power_scaled(rows, LIKELY).numpy()
    assert (scaled[0, 3:] < rows[0, 3:]).all()
    assert scaled[0, 0] - scaled[0, 1] < rows[0, 0] - rows[0, 1]


@pytest.mark.parametrize("certain", [1, np.nextafter(np.float32(1), np.float32(2))])
def test_a_certain_answer_stays_certain_even_if_rounding_put_it_above_one(certain: float):
    rows = np.array([[certain, 0, 0, 0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(power_scaled(rows, LIKELY).numpy(), [[1, 0, 0, 0, 0, 0, 0]])


def test_the_least_numbers_there_are_stay_below_the_others():
    least = np.finfo(np.float32).smallest_subnormal
    rows = np.array([[0.5, 0.5, least, least, 0, 0, 0]], np.float32)
    scaled = power_scaled(rows, LIKELY).numpy()
    np.testing.assert_allclose(scaled, [[0.5, 0.5, 0, 0, 0, 0, 0]], atol=1e-30)


@pytest.mark.parametrize("field", ["scale", "exponent"])
def test_numbers_that_would_change_the_order_are_refused(field: str):
    with pytest.raises(ValidationError, match=field):
        PowerScaling(**({"scale": 1, "exponent": 1} | {field: 0}))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.json")), ids=lambda path: path.stem)
def test_power_scaling_stands_in_the_card_of_a_model_that_has_it(path: Path, tmp_path: Path):
    card = ModelCard.read(path)
    written = tmp_path / path.name
    card.write(written)
    assert json.loads(written.read_text()) == json.loads(path.read_text())
    card.power_scaling = LIKELY
    card.write(written)
    assert json.loads(written.read_text())["power_scaling"] == {"scale": 0.4, "exponent": 1.7}
    assert ModelCard.read(written) == card
