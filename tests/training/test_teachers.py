"""What a network's second head learns: people's votes, and teachers' answers beside them."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.reader import Split
from ferserve.fer2013.votes import Votes
from ferserve_training.networks import build_network
from ferserve_training.recipes import LIGHT
from ferserve_training.run_folder import RunFolder
from ferserve_training.train import vote_targets

HAPPY, NEUTRAL, FEAR = 3, 6, 2


@pytest.fixture
def split() -> Split:
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)
    return Split(faces, np.array([HAPPY, HAPPY]), ("seen.png", "unseen.png"))


@pytest.fixture
def votes() -> Votes:
    return Votes({"seen": np.array([0, 0, 0, 8, 0, 0, 2, 0, 0, 0])})


def write_run(root: Path, heads: int) -> Path:
    """A run whose votes' head, if it has one, always answers with fear."""
    network = build_network("light", heads=heads)
    logits = network.get_layer("logits")
    logits.kernel.assign(np.zeros(logits.kernel.shape))
    logits.bias.assign(100.0 * (np.arange(7 * heads) == 7 + FEAR))
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
    teachers = [write_run(tmp_path / "one", heads=1), write_run(tmp_path / "two", heads=2)]
    rows = vote_targets(split, votes, teachers)
    assert rows[0, [HAPPY, NEUTRAL, FEAR]] == pytest.approx([0.4, 0.1, 0.5], abs=1e-4)
    assert rows[1, FEAR] == pytest.approx(0.5, abs=1e-4)
