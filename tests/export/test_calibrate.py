import numpy as np
import pytest
from ferserve.card import PowerScaling
from ferserve.fer2013.scoring import agreement, cross_entropy, expected_calibration_error
from ferserve_export.calibrate import (
    EXPONENTS,
    SCALES,
    confidence_threshold,
    fit,
    fit_power_scaling,
    fit_temperature,
    mean_probabilities,
)
from power_scaling import apply_power_scaling
from scipy.special import softmax


@pytest.fixture(scope="module")
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the probability of the label, and one-hot labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 7))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, np.eye(7)[labels]


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


def error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return expected_calibration_error(probabilities.max(axis=1), agreement(probabilities, labels))


def draw(probabilities: np.ndarray) -> np.ndarray:
    """One-hot labels that come true as often as the probabilities say."""
    noise = np.random.default_rng(2).gumbel(size=probabilities.shape)
    return np.eye(7)[(np.log(probabilities) + noise).argmax(axis=1)]


@pytest.mark.parametrize(("scale", "exponent"), [(0.4, 1.7), (1.0, 1.0), (1.5, 0.7)])
def test_the_power_scaling_that_is_wanting_is_found(calibrated, scale: float, exponent: float):
    probabilities = softmax(calibrated[0], axis=1)
    wanting = PowerScaling(scale=scale, exponent=exponent)
    found = fit_power_scaling(probabilities, draw(apply_power_scaling(probabilities, wanting)))
    assert (found.scale, found.exponent) == pytest.approx((scale, exponent), rel=0.05)


def test_a_few_answers_that_are_all_right_are_not_made_infinitely_sure():
    probabilities = np.tile(softmax(np.linspace(0, 0.1, 7)[None]), (3, 1))
    found = fit_power_scaling(probabilities, np.eye(7)[[6, 6, 6]])
    assert (found.scale, found.exponent) == pytest.approx((SCALES[1], EXPONENTS[1]))


@pytest.mark.parametrize("mirror", [False, True])
def test_power_scaling_mends_what_a_temperature_cannot(calibrated, mirror: bool):
    logits, labels = calibrated
    # What label smoothing teaches: every emotion keeps a share.
    smoothed = np.log(0.8 * softmax(logits, axis=1) + 0.2 / 7)
    views = [smoothed.astype(np.float32)] * 2
    found = fit(views, labels, mirror=mirror)
    assert found.power_scaling.exponent > 1
    tempered = mean_probabilities(views, found.temperature)
    served = apply_power_scaling(tempered, found.power_scaling)
    assert cross_entropy(served, labels).mean() < cross_entropy(tempered, labels).mean()
    assert found.calibration.ece_after == pytest.approx(error(served, labels), abs=1e-6)
    assert found.calibration.ece_after < error(tempered, labels)
    assert found.low_confidence_threshold == pytest.approx(confidence_threshold(served, labels))


def test_what_mirroring_gains_is_said_even_if_it_is_not_served(calibrated):
    logits, labels = calibrated
    noise = np.random.default_rng(1).normal(0, 2, logits.shape)
    views = [logits + noise, logits - noise]
    apart, together = (fit(views, labels, mirror=mirror).calibration for mirror in (False, True))
    assert together.accuracy > apart.accuracy + 0.05
    assert together.mirror_gain == pytest.approx(together.accuracy - apart.accuracy)
    assert apart.mirror_gain > 0.05
    assert fit([logits], labels).calibration.mirror_gain is None


def test_answers_over_the_threshold_are_right_at_the_stated_rate(calibrated):
    logits, labels = calibrated
    probabilities = softmax(logits, axis=1)
    threshold = confidence_threshold(probabilities, labels, 0.8)
    sure = probabilities.max(axis=1) >= threshold
    right = agreement(probabilities, labels)
    assert right[sure].mean() >= 0.8
    assert right[probabilities.max(axis=1) >= threshold - 0.05].mean() < 0.8


def test_a_network_that_is_never_right_gets_a_threshold_of_one():
    assert confidence_threshold(np.eye(7)[[0, 0]], np.eye(7)[[1, 2]], 0.8) == 1.0


def test_equal_confidences_are_over_the_threshold_together():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    labels = np.eye(2)[[0] * 5 + [1] * 5]
    assert confidence_threshold(probabilities, labels, 0.8) == 1.0


def test_a_network_that_is_right_often_enough_warns_only_below_its_least_confidence():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
    assert confidence_threshold(probabilities, np.eye(2)[[0, 0]], 0.8) == 0.6


def test_shares_of_people_are_as_good_a_target_as_labels(calibrated):
    logits, _ = calibrated
    shares = softmax(logits, axis=1)
    found = fit([3 * logits], shares)
    assert found.temperature == pytest.approx(3, rel=1e-3)
    assert found.calibration.accuracy == pytest.approx(shares.max(axis=1).mean())
    assert found.calibration.ece_before > 0.1
    assert found.calibration.ece_after < 1e-3
    sure = shares.max(axis=1) >= found.low_confidence_threshold
    assert shares.max(axis=1)[sure].mean() == pytest.approx(0.8, abs=1e-3)
