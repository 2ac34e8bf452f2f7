"""Fixtures: real runs of `ferserve train` on a small data set, made once a session."""

import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_fer2013 import write_zip


@pytest.fixture(scope="session")
def small_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(tmp_path_factory.mktemp("fer2013") / "fer2013.zip")


def run_ferserve(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ferserve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="session")
def jax_run(small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of the Custom CNN on JAX."""
    folder = tmp_path_factory.mktemp("jax") / "run"
    settings = ["--epochs", 2, "--backend", "jax"]
    arguments = ["custom_cnn", "--data", small_zip, "--out", folder, *settings]
    result = run_ferserve("train", *arguments)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def exported(jax_run: Path, small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ferserve export` makes of that run."""
    folder = tmp_path_factory.mktemp("models")
    result = run_ferserve(
        "export", "custom_cnn", "--data", small_zip, "--run", jax_run, "--out", folder
    )
    assert result.returncode == 0, result.stderr
    assert "parity with Keras at batch 1 and 7" in result.stdout
    return folder
