from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import (
    expected_calibration_error,
    mcnemar,
    reliability_bins,
    score,
    wilson_interval,
)
from sklearn import metrics


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 500)
    logits = rng.normal(size=(500, 7)) + 1.5 * np.eye(7)[labels]
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32), labels


def test_every_score_agrees_with_scikit_learn(sample):
    probabilities, labels = sample
    scores = score(probabilities, labels)
    predicted = probabilities.argmax(1)
    table = metrics.precision_recall_fscore_support(labels, predicted, zero_division=0)
    assert scores.n == 500
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(labels, predicted))
    for i, emotion in enumerate(EMOTIONS):
        ours = scores.per_class[emotion]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx([c[i] for c in table[:3]])
        assert ours.support == table[3][i]


def test_confusion_has_labels_in_rows():
    scores = score(np.eye(7, dtype=np.float32)[[3, 3]], np.array([3, 4]))
    assert scores.confusion[4, 3] == 1
    assert scores.confusion[3, 4] == 0


def test_a_class_that_is_never_seen_nor_predicted_scores_zero_and_counts_for_nothing():
    scores = score(np.eye(7, dtype=np.float32)[[0]], np.array([0]))
    assert scores.per_class["happy"] == type(scores.per_class["happy"])(0.0, 0.0, 0.0, 0)
    assert scores.macro_f1 == metrics.f1_score([0], [0], average="macro") == 1


def test_ece_of_sure_and_right_answers_is_zero():
    assert expected_calibration_error(np.ones(7), np.ones(7, bool)) == 0


def test_ece_is_the_weighted_gap_of_the_bins():
    # Two answers at 0.9, one right: gap 0.4. Two at 0.6, both right: gap 0.4.
    confidence = np.array([0.9, 0.9, 0.6, 0.6], np.float32)
    right = np.array([True, False, True, True])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("shape", "count"), [((0, 7), 0), ((2, 7), 3), ((2, 6), 2)], ids=["none", "uneven", "columns"]
)
def test_shapes_that_do_not_belong_together_are_refused(shape, count):
    with pytest.raises(ValueError, match="expected probabilities"):
        score(np.zeros(shape, np.float32), np.zeros(count, np.int64))


# The bins belong to the calibration error that is reported beside them.


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (500, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 7, 500)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def test_their_weighted_gap_is_the_calibration_error(answers):
    bins = reliability_bins(*answers)
    gap = sum(b.n * abs(b.accuracy - b.confidence) for b in bins if b.n) / 500
    assert gap == pytest.approx(expected_calibration_error(*answers), abs=1e-12)


def test_they_hold_every_image_once_and_span_0_to_1(answers):
    bins = reliability_bins(*answers)
    assert sum(b.n for b in bins) == 500
    assert (bins[0].low, bins[-1].high) == (0, 1)
    assert all(left.high == right.low for left, right in pairwise(bins))
    assert all(b.low < b.confidence <= b.high for b in bins if b.n)


def test_an_empty_bin_has_no_shares(answers):
    first = reliability_bins(*answers)[0]  # no seven shares are all below 1/15
    assert (first.n, first.confidence, first.accuracy) == (0, None, None)


# Intervals and McNemar's test against published or hand-counted values.


def test_the_interval_is_wilsons():
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert (wilson_interval(0, 5)[0], wilson_interval(5, 5)[1]) == (0, 1)


def test_the_test_of_the_images_that_only_one_model_gets_right_is_exact():
    expected = Fraction(2 * sum(comb(350, k) for k in range(151)), 2**350)
    assert mcnemar(150, 200) == mcnemar(200, 150) == float(expected)


def test_equal_models_do_not_differ():
    assert mcnemar(4, 4) == mcnemar(0, 0) == 1.0


def test_a_large_difference_does_not_underflow_to_a_wrong_value():
    assert 0 <= mcnemar(3000, 100) < 1e-200
