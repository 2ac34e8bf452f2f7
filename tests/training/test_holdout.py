import json
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.dataset import leak_free_mask
from ferserve.fer2013.reader import Split
from ferserve_training import TrainingError
from ferserve_training.holdout import has_seen, split_training
from synthetic_fer2013 import face

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture(scope="module")
def train() -> Split:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 40)
    faces = np.stack([face(label, rng) for label in labels])
    faces[1::4] = faces[::4]  # every fourth face stands twice
    return Split(faces, labels, tuple(str(i) for i in range(len(labels))))


def test_no_face_stands_on_both_sides(train: Split):
    rest, holdout = split_training(train, 0.1)
    assert leak_free_mask(holdout.faces, rest.faces).all()


def test_both_sides_together_are_all_faces(train: Split):
    rest, holdout = split_training(train, 0.1)
    assert sorted(rest.ids + holdout.ids) == sorted(train.ids)


def test_every_emotion_keeps_its_share(train: Split):
    _, holdout = split_training(train, 0.1)
    assert (np.abs(np.bincount(holdout.labels, minlength=7) - 4) <= 1).all()


def test_a_seed_gives_the_same_hold_out_again(train: Split):
    assert split_training(train, 0.1, seed=3)[1].ids == split_training(train, 0.1, seed=3)[1].ids
    assert split_training(train, 0.1, seed=3)[1].ids != split_training(train, 0.1, seed=4)[1].ids


def test_a_model_has_seen_the_hold_out_unless_it_held_out_the_same(train: Split, tmp_path: Path):
    _, ours = split_training(train, 0.1)
    _, other = split_training(train, 0.1, seed=1)
    run, model = tmp_path / "run", tmp_path / "model.onnx"
    assert not has_seen(model, ours)  # nothing says so
    run.mkdir()
    for described, seen in (
        ({"holdout_sha256": ours.sha256()}, False),
        ({"holdout_sha256": other.sha256()}, True),
        ({"holdout_sha256": ours.sha256(), "holdout_seen_by": ["teacher.onnx"]}, True),
        ({}, False),
    ):
        (run / "run.json").write_text(json.dumps(described))
        model.with_suffix(".json").write_text(json.dumps({"training": described}))
        for path in (run, run / "best.weights.h5", model):
            assert has_seen(path, ours) == seen
    assert not has_seen(MODELS / "crowd.onnx", ours.take(np.arange(0)))
    assert has_seen(MODELS / "crowd.onnx", ours)  # it was fitted to all faces


def test_a_share_that_no_emotion_has_the_faces_for_is_refused(train: Split):
    with pytest.raises(TrainingError, match=r"too few faces for a hold-out of 0\.02"):
        split_training(train, 0.02)
