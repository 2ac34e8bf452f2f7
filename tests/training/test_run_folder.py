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
