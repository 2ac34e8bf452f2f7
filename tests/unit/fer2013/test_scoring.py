import numpy as np
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import expected_calibration_error, score
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


def test_a_class_that_is_never_seen_nor_predicted_scores_zero():
    scores = score(np.eye(7, dtype=np.float32)[[0]], np.array([0]))
    assert scores.per_class["happy"] == type(scores.per_class["happy"])(0.0, 0.0, 0.0, 0)
    assert scores.macro_f1 == pytest.approx(1 / 7)


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
