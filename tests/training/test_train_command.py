"""`ferserve train` as a user runs it: a process of its own on a small data set."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import ferserve_training
import pytest
from ferserve.fer2013.reader import read_fer2013
from ferserve_training import TrainingError
from ferserve_training.recipes import find_recipe
from ferserve_training.run_folder import RunFolder, load_network
from ferserve_training.train import train


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ferserve", "train", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run_folder", ["tensorflow_run", "jax_run"])
def test_two_epochs_leave_weights_history_and_description(run_folder, request):
    folder: Path = request.getfixturevalue(run_folder)
    assert (folder / "best.weights.h5").stat().st_size > 1e6
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 for row in rows)
    assert all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    description = json.loads((folder / "run.json").read_text())
    assert description["recipe"]["network"] == "custom_cnn"
    assert description["images"] + description["holdout_images"] == 140


def test_interrupted_run_resumes_after_its_last_whole_epoch(small_zip: Path, tmp_path: Path):
    folder = tmp_path / "run"
    arguments = ("custom_cnn", "--data", small_zip, "--out", folder, "--epochs", 3, "--limit", 70)
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (folder / "history.csv").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    if process.returncode != 0:  # 0: it was done before the signal came
        assert process.returncode == 130
        assert "--resume" in errors
    resumed = run(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3"]


def test_a_started_run_is_not_overwritten(small_zip: Path, tensorflow_run: Path):
    before = (tensorflow_run / "best.weights.h5").read_bytes()
    result = run("custom_cnn", "--data", small_zip, "--out", tensorflow_run)
    assert result.returncode == 1
    assert "holds a run; go on with --resume" in result.stderr
    assert (tensorflow_run / "best.weights.h5").read_bytes() == before


def test_a_run_does_not_resume_with_other_settings(small_zip: Path, tensorflow_run: Path):
    result = run(
        "custom_cnn", "--data", small_zip, "--out", tensorflow_run, "--resume", "--seed", 5
    )
    assert result.returncode == 1
    assert "was started with another" in result.stderr
    assert "seed" in result.stderr


def test_unknown_model_is_answered_with_the_known_ones(small_zip: Path, tmp_path: Path):
    result = run("custom_rnn", "--data", small_zip, "--out", tmp_path / "run")
    assert result.returncode == 1
    assert "unknown model 'custom_rnn'; known: custom_cnn" in result.stderr


def test_missing_data_is_answered_with_the_path(tmp_path: Path):
    result = run("custom_cnn", "--data", tmp_path / "none.zip", "--out", tmp_path / "run")
    assert result.returncode == 1
    assert "none.zip: no such file" in result.stderr
    assert not (tmp_path / "run").exists()


def test_vgg16_is_fine_tuned_at_the_sides_asked_for(small_zip: Path, tmp_path: Path):
    folder = tmp_path / "run"
    settings = ("--sides", "32,40", "--batch-size", 16)
    arguments = ("vgg16", "--data", small_zip, "--out", folder, "--epochs", 2, *settings)
    result = run(*arguments, "--limit", 70, "--backbone-weights", "none")
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in history(folder)] == ["1", "2"]
    description = json.loads((folder / "run.json").read_text())
    assert description["recipe"]["sides"] == [32, 40]
    assert description["backbone_weights"] is None
    network = load_network(RunFolder(folder))
    assert network.get_layer("upsampling").side == 40


def test_custom_cnn_is_distilled_from_other_runs(
    small_zip: Path, tensorflow_run: Path, jax_run: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    teachers = ("--teacher", tensorflow_run, "--teacher", jax_run)
    arguments = ("--data", small_zip, "--out", folder, "--epochs", 1, "--limit", 70, *teachers)
    result = run("custom_cnn", *arguments)
    assert result.returncode == 0, result.stderr
    described = json.loads((folder / "run.json").read_text())["teachers"]
    weights = [(teacher / "best.weights.h5").read_bytes() for teacher in teachers[1::2]]
    assert [teacher["network"] for teacher in described] == ["custom_cnn", "custom_cnn"]
    assert [teacher["weights_sha256"] for teacher in described] == [
        hashlib.sha256(data).hexdigest() for data in weights
    ]
    assert load_network(RunFolder(folder)).count_params() < 6e6  # the student's alone


def test_missing_pretrained_weights_are_answered_with_the_path(small_zip: Path, tmp_path: Path):
    weights = ("--backbone-weights", tmp_path / "none.h5")
    result = run("vgg16", "--data", small_zip, "--out", tmp_path / "run", *weights)
    assert result.returncode == 1
    assert "none.h5: no such file" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("custom_cnn", {"teachers": [Path("nowhere")]}, "nowhere/best.weights.h5: no such file"),
        ("light", {}, "learns from FER\\+ votes too"),
    ],
    ids=["empty-teacher", "no-votes"],
)
def test_a_run_that_cannot_be_made_leaves_no_folder(
    small_zip: Path, tmp_path: Path, model: str, settings: dict, message: str
):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match=message):
        train(find_recipe(model, "default"), read_fer2013(small_zip), folder, **settings)
    assert not folder.root.exists()


def test_gpu_run_leaves_its_weights_in_parts_with_their_checksum(small_zip: Path, tmp_path: Path):
    script = Path(ferserve_training.__file__).with_name("gpu_run.sh")
    variables = {"PYTHON": sys.executable, "KERAS_BACKEND": "tensorflow"}
    variables["EXTRA"] = "--limit 70 --epochs 1 --batch-size 32"
    result = subprocess.run(
        ["bash", script, small_zip, "imagenet", "runs", "custom_cnn"],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    carried = tmp_path / "runs" / "carry"
    weights = b"".join(part.read_bytes() for part in sorted(carried.glob("custom_cnn.h5.*")))
    with tarfile.open(carried / "custom_cnn.tar") as archive:
        assert archive.getnames() == ["run.json", "history.csv", "sha256"]
        checksum = archive.extractfile("sha256").read().decode().split()[0]
    assert hashlib.sha256(weights).hexdigest() == checksum
