"""Fixture: the whole FER2013, where it is at hand."""

import os
from pathlib import Path

import pytest
from ferserve.fer2013.reader import Fer2013, read_fer2013

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "fer2013.zip"


@pytest.fixture(scope="session")
def full_dataset_path() -> Path:
    path = Path(os.environ.get("FERSERVE_DATASET") or BESIDE_THE_REPOSITORY)
    if not path.exists():
        pytest.skip("needs the whole FER2013: set FERSERVE_DATASET to the zip, folder or CSV")
    return path


@pytest.fixture(scope="session")
def full_dataset(full_dataset_path: Path) -> Fer2013:
    return read_fer2013(full_dataset_path)
