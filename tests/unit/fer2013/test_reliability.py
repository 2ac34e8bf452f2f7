"""The bins belong to the calibration error that is reported beside them."""

from itertools import pairwise

import numpy as np
import pytest
from ferserve.fer2013.reliability import reliability_bins
from ferserve.fer2013.scoring import expected_calibration_error


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
