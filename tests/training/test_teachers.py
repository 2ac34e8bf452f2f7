"""What a network learns beside labels: people's votes, and what teachers answer."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.reader import Split
from ferserve.fer2013.votes import Votes
from ferserve_training.evaluate import open_model
from ferserve_training.networks import build_network
from ferserve_training.recipes import LIGHT
from ferserve_training.run_folder import RunFolder
from ferserve_training.teachers import find_teacher, mean_answers
from ferserve_training.train import vote_targets
from scipy.special import softmax

ANGRY, FEAR, HAPPY, NEUTRAL = 0, 2, 3, 6
MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture
def split() -> Split:
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)
    return Split(faces, np.array([HAPPY, HAPPY]), ("seen.png", "unseen.png"))


@pytest.fixture
def votes() -> Votes:
    return Votes({"seen": np.array([0, 0, 0, 8, 0, 0, 2, 0, 0, 0])})


def write_run(root: Path, heads: int) -> Path:
    """A run whose labels' head always answers with anger; its votes' head, if any, with fear."""
    network = build_network("light", heads=heads)
    logits = network.get_layer("logits")
    logits.kernel.assign(np.zeros(logits.kernel.shape))
    logits.bias.assign(100.0 * np.isin(np.arange(7 * heads), (ANGRY, 7 + FEAR)))
    folder = RunFolder(root)
    folder.open({"recipe": asdict(replace(LIGHT, votes=0.5 * (heads - 1)))}, resume=False)
    network.save_weights(folder.weights)
    return root


def test_without_teachers_they_are_people_s_shares(split: Split, votes: Votes):
    rows = vote_targets(split, votes)
    assert rows[0, HAPPY] == pytest.approx(0.8)
    assert rows[0, NEUTRAL] == pytest.approx(0.2)
    assert not rows[1].any()


def test_a_teacher_that_learned_from_votes_has_a_say(split: Split, votes: Votes, tmp_path: Path):
    runs = [write_run(tmp_path / "one", heads=1), write_run(tmp_path / "two", heads=2)]
    rows = vote_targets(split, votes, [find_teacher(run) for run in runs])
    assert rows[0, [HAPPY, NEUTRAL, FEAR]] == pytest.approx([0.4, 0.1, 0.5], abs=1e-4)
    assert rows[1, FEAR] == pytest.approx(0.5, abs=1e-4)


def test_an_exported_model_answers_as_it_is_served(split: Split, votes: Votes):
    crowd = [find_teacher(MODELS / "crowd.onnx")]
    served = open_model(MODELS / "crowd.onnx")(split.faces)
    alone = vote_targets(split, votes)
    assert np.allclose(vote_targets(split, votes, crowd), (alone + served) / 2, atol=1e-6)
    assert mean_answers(crowd, "FER2013 labels", split.faces) is None


def test_answers_are_softened_by_a_temperature_before_their_mean(split: Split, tmp_path: Path):
    teachers = [find_teacher(MODELS / "light.onnx"), find_teacher(write_run(tmp_path / "run", 1))]
    rows = mean_answers(teachers, "FER2013 labels", split.faces, temperature=4.0)
    logits = np.log(open_model(MODELS / "light.onnx")(split.faces))
    angry = 25.0 * (np.arange(7) == ANGRY)
    expected = (softmax(logits / 4, axis=1) + softmax(angry)) / 2
    assert np.allclose(rows, expected, atol=1e-5)
