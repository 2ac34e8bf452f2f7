"""Intervals and McNemar's test against published or hand-counted values."""

import numpy as np
import pytest
from ferserve.fer2013.statistics import mcnemar, wilson_interval


def test_the_interval_is_wilsons():
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_interval_stays_within_0_and_1():
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 5)[0] == 0.0


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_an_impossible_count_is_refused(hits, n):
    with pytest.raises(ValueError, match="hits"):
        wilson_interval(hits, n)


def outcomes(both: int, only_first: int, only_second: int, neither: int):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first), np.array(second)


def test_only_the_images_on_which_the_models_differ_count():
    few = mcnemar(*outcomes(0, 1, 5, 0))
    many = mcnemar(*outcomes(1000, 1, 5, 1000))
    assert few == many
    assert (few.only_first, few.only_second) == (1, 5)
    assert few.p_value == 2 * (1 + 6) / 2**6


def test_equal_models_do_not_differ():
    assert mcnemar(*outcomes(3, 4, 4, 3)).p_value == 1.0
    assert mcnemar(*outcomes(3, 0, 0, 3)).p_value == 1.0


def test_a_large_difference_does_not_underflow_to_a_wrong_value():
    assert 0 <= mcnemar(*outcomes(0, 3000, 100, 0)).p_value < 1e-200


def test_different_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        mcnemar(np.array([True]), np.array([True, False]))
