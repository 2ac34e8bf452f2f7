"""Fixtures: real runs of `ferserve train` on a small data set, made once a session."""

import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_fer2013 import write_zip


@pytest.fixture(scope="session")
def small_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(tmp_path_factory.mktemp("fer2013") / "fer2013.zip")


def train_two_epochs(data: Path, folder: Path, backend: str) -> Path:
    arguments = ["custom_cnn", "--data", data, "--out", folder, "--epochs", 2, "--backend", backend]
    result = subprocess.run(
        [sys.executable, "-m", "ferserve", "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def tensorflow_run(small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two_epochs(small_zip, tmp_path_factory.mktemp("tensorflow") / "run", "tensorflow")


@pytest.fixture(scope="session")
def jax_run(small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two_epochs(small_zip, tmp_path_factory.mktemp("jax") / "run", "jax")


def run_export(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ferserve", "export", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="session")
def exported(jax_run: Path, small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    result = run_export("custom_cnn", "--data", small_zip, "--run", jax_run, "--out", folder)
    assert result.returncode == 0, result.stderr
    assert "parity with Keras at batch 1 and 7" in result.stdout
    return folder
