"""Every figure against a value worked out by hand."""

import numpy as np
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import cross_entropy, js_distance, score_votes
from ferserve.fer2013.votes import CHOICES
from scipy.spatial.distance import jensenshannon


def counts(*faces: dict[str, int]) -> np.ndarray:
    return np.array([[face.get(name, 0) for name in CHOICES] for face in faces], np.int64)


def probabilities(*faces: dict[str, float]) -> np.ndarray:
    return np.array([[face.get(name, 0) for name in EMOTIONS] for face in faces], np.float32)


def test_accuracy_counts_faces_whose_majority_is_one_of_the_seven_emotions():
    answers = probabilities(*[{"happy": 0.9, "sad": 0.1}] * 6)
    scores, _ = score_votes(
        answers,
        counts(
            {"happy": 8, "sad": 2},
            {"happy": 6, "unknown": 4},
            {"sad": 10},
            {"happy": 5, "sad": 5},  # no majority
            {"happy": 4, "contempt": 6},  # none of the seven
            {},  # no votes
        ),
    )
    assert scores.n == 3
    assert scores.accuracy == pytest.approx(2 / 3)


def test_mean_recall_leaves_out_emotions_without_a_face():
    answers = probabilities({"happy": 1}, {"happy": 1}, {"happy": 1}, {"neutral": 1})
    votes = counts({"happy": 10}, {"happy": 10}, {"sad": 10}, {"happy": 10})
    scores, _ = score_votes(answers, votes)
    assert scores.recall == dict.fromkeys(EMOTIONS) | {"happy": pytest.approx(2 / 3), "sad": 0}
    assert list(scores.recall) == list(EMOTIONS)
    assert scores.mean_recall == pytest.approx(1 / 3)


def test_shares_are_renormalised_over_the_seven_emotions():
    # Of eight votes for emotions, six are happy and two are sad: 0.75 and 0.25.
    votes = counts({"happy": 6, "sad": 2, "unknown": 2})
    scores, _ = score_votes(probabilities({"happy": 0.5, "sad": 0.5}), votes)
    assert scores.cross_entropy == pytest.approx(np.log(2))
    # Entropies in bits: 0.954434 of the mean (0.625, 0.375), 1 and 0.811278 of the two.
    divergence = 0.954434 - (1 + 0.811278) / 2
    assert scores.js_distance == pytest.approx(np.sqrt(divergence), abs=5e-6)


def test_shares_are_compared_on_faces_with_a_vote_for_an_emotion():
    answers = probabilities(*[{"happy": 1}] * 4)
    votes = counts({"happy": 10}, {"sad": 1, "not_a_face": 9}, {"not_a_face": 10}, {})
    scores, bins = score_votes(answers, votes)
    assert scores.n_shares == 2
    assert scores.js_distance == pytest.approx((0 + 1) / 2)
    assert (bins[14].n, bins[14].accuracy) == (2, 0.5)


def test_cross_entropy_weighs_the_models_logarithms_with_the_shares_of_people():
    answers = probabilities({"fear": 0.8, "sad": 0.2}, {"fear": 0.5, "sad": 0.5})
    scores, _ = score_votes(answers, counts({"fear": 6, "sad": 2}, {"fear": 10}))
    # -0.75 * log(0.8) - 0.25 * log(0.2) = 0.167358 + 0.402359; -log(0.5) = 0.693147.
    assert scores.cross_entropy == pytest.approx((0.569717 + 0.693147) / 2, abs=1e-6)


def test_cross_entropy_of_a_vote_that_the_model_rules_out_is_finite():
    expected = pytest.approx(126 * np.log(2))  # float32: 2 ** -126
    assert cross_entropy(np.eye(7)[[0]], np.eye(7)[[1]]) == expected


def test_distance_is_0_for_equal_rows_and_1_for_rows_that_share_no_emotion():
    same = np.array([[0.1, 0.2, 0.3, 0.4, 0, 0, 0]])
    other = np.array([[0, 0, 0, 0, 0.5, 0.25, 0.25]])
    assert js_distance(same, same) == pytest.approx(0, abs=1e-12)
    assert js_distance(same, other) == pytest.approx(1)


def test_distance_agrees_with_scipy():
    first, second = np.random.default_rng(0).dirichlet(np.ones(7), (2, 50))
    expected = jensenshannon(first, second, base=2, axis=1)
    assert js_distance(first, second) == pytest.approx(expected)


def test_reliability_sets_the_highest_score_against_the_share_of_people():
    # 0.9 and 0.92 lie in (13/15, 14/15]; 0.5 lies in (7/15, 8/15].
    answers = probabilities(
        {"happy": 0.9, "sad": 0.1}, {"sad": 0.92, "fear": 0.08}, {"fear": 0.5, "sad": 0.4}
    )
    votes = counts({"happy": 8, "sad": 2}, {"sad": 4, "unknown": 6}, {"fear": 3, "sad": 7})
    scores, bins = score_votes(answers, votes)
    assert [b.n for b in bins] == [0] * 7 + [1] + [0] * 5 + [2, 0]
    assert (bins[13].low, bins[13].high) == (13 / 15, 14 / 15)
    assert bins[13].confidence == pytest.approx(0.91)
    assert bins[13].accuracy == pytest.approx((0.8 + 1) / 2)  # among the seven emotions
    assert (bins[7].confidence, bins[7].accuracy) == pytest.approx((0.5, 0.3))
    assert (bins[14].confidence, bins[14].accuracy) == (None, None)
    assert scores.ece == pytest.approx((2 * (0.91 - 0.9) + (0.5 - 0.3)) / 3)


@pytest.mark.parametrize("rows", [0, 2], ids=["no-face", "no-votes"])
def test_without_votes_every_mean_is_none(rows: int):
    answers = np.full((rows, 7), 1 / 7, np.float32), np.zeros((rows, 10), np.int64)
    scores, bins = score_votes(*answers)
    assert (scores.n, scores.n_shares) == (0, 0)
    assert scores.accuracy is scores.mean_recall is scores.cross_entropy is None
    assert scores.js_distance is scores.ece is None
    assert set(scores.recall.values()) == {None}
    assert all((b.n, b.confidence, b.accuracy) == (0, None, None) for b in bins)
