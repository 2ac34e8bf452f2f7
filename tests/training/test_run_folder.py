"""The folder of a run, and whether a run may go on in it."""

from pathlib import Path

import pytest
from ferserve_training import TrainingError
from ferserve_training.run_folder import RunFolder


def test_a_run_of_an_earlier_version_that_described_less_resumes(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.open({"seed": 0, "backbone_weights_sha256": "1f"}, resume=False)
    folder.open({"seed": 0, "backbone_weights": "imagenet"}, resume=True)
    with pytest.raises(TrainingError, match="was started with another seed"):
        folder.open({"seed": 1, "backbone_weights": "imagenet"}, resume=True)


def test_a_first_checkpoint_that_was_cut_short_is_left_out(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.open({"seed": 0}, resume=False)
    folder.checkpoint.mkdir()
    (folder.checkpoint / "latest.weights.h5").write_bytes(b"half of it")
    folder.open({"seed": 0}, resume=True)
    assert not folder.checkpoint.exists()
    folder.checkpoint.mkdir()
    folder.history.write_text("epoch,loss\n1,2.0\n")
    folder.open({"seed": 0}, resume=True)
    assert folder.checkpoint.exists()


def test_a_run_whose_checkpoint_is_gone_does_not_begin_anew(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.open({"seed": 0}, resume=False)
    folder.history.write_text("epoch,loss\n1,2.0\n")
    with pytest.raises(TrainingError, match="is gone: the run cannot go on"):
        folder.open({"seed": 0}, resume=True)


def test_a_new_run_takes_nobody_elses_checkpoint(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.checkpoint.mkdir()
    with pytest.raises(TrainingError, match="is there already"):
        folder.open({"seed": 0}, resume=False)
    assert not folder.description.exists()
