import numpy as np
import pytest

from export.calibrate import confidence_threshold, fit_temperature


@pytest.fixture(scope="module")
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the probability of the label."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 7))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, labels


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(calibrated, temperature: float):
    logits, labels = calibrated
    assert fit_temperature([logits * temperature], labels) == pytest.approx(temperature, rel=0.03)


def test_the_average_of_two_views_is_what_is_calibrated(calibrated):
    logits, labels = calibrated
    same_twice = fit_temperature([2 * logits, 2 * logits], labels)
    assert same_twice == pytest.approx(2.0, rel=0.03)
    noise = np.random.default_rng(1).normal(0, 2, logits.shape)
    # Averaging two differing views blurs the answers: each view must be sharper to make up.
    assert fit_temperature([logits + noise, logits - noise], labels) < 1.6


def test_answers_over_the_threshold_are_right_at_the_stated_rate(calibrated):
    logits, labels = calibrated
    probabilities = softmax(logits)
    threshold = confidence_threshold(probabilities, labels, 0.8)
    sure = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == labels
    assert right[sure].mean() >= 0.8
    assert right[probabilities.max(axis=1) >= threshold - 0.05].mean() < 0.8


def test_a_network_that_is_never_right_gets_a_threshold_of_one():
    assert confidence_threshold(np.eye(7)[[0, 0]], np.array([1, 2]), 0.8) == 1.0


def test_a_network_that_is_right_often_enough_warns_only_below_its_least_confidence():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
    assert confidence_threshold(probabilities, np.array([0, 0]), 0.8) == 0.6
