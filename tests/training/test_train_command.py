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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ferserve_training
import pytest
from ferserve.fer2013.reader import read_fer2013
from ferserve_training import TrainingError
from ferserve_training.recipes import find_recipe
from ferserve_training.run_folder import RunFolder, load_network
from ferserve_training.train import train
from training_runs import run_ferserve

train_process = partial(run_ferserve, "train")

MODELS = Path(__file__).resolve().parents[2] / "models"


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class InterruptedRun:
    folder: Path
    exit_status: int
    errors: str
    resumed: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def interrupted_run(small_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> InterruptedRun:
    """Two epochs on TensorFlow, interrupted after the first and resumed."""
    folder = tmp_path_factory.mktemp("tensorflow") / "run"
    settings = ("--epochs", 2, "--backend", "tensorflow")
    arguments = ("custom_cnn", "--data", small_zip, "--out", folder, *settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "ferserve", "train", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not (folder / "history.csv").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    return InterruptedRun(folder, process.returncode, errors, train_process(*arguments, "--resume"))


@pytest.fixture(scope="module")
def tensorflow_run(interrupted_run: InterruptedRun) -> Path:
    return interrupted_run.folder


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


def test_interrupted_run_resumes_after_its_last_whole_epoch(interrupted_run: InterruptedRun):
    if interrupted_run.exit_status != 0:  # 0: it was done before the signal came
        assert interrupted_run.exit_status == 130
        assert "--resume" in interrupted_run.errors
    assert interrupted_run.resumed.returncode == 0, interrupted_run.resumed.stderr
    assert [row["epoch"] for row in history(interrupted_run.folder)] == ["1", "2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "holds a run; go on with --resume"),
        ({"resume": True, "seed": 5}, "was started with another .*seed"),
    ],
    ids=["started anew", "resumed with another seed"],
)
def test_a_run_that_there_is_stays_as_it_is(
    small_zip: Path, tensorflow_run: Path, settings: dict, message: str
):
    files = [tensorflow_run / name for name in ("best.weights.h5", "run.json", "history.csv")]
    before = [file.read_bytes() for file in files]
    recipe = find_recipe("custom_cnn", "default", epochs=2, precision="float32")
    with pytest.raises(TrainingError, match=message):
        train(recipe, read_fer2013(small_zip), RunFolder(tensorflow_run), **settings)
    assert [file.read_bytes() for file in files] == before


def test_unknown_model_is_answered_with_the_known_ones(small_zip: Path, tmp_path: Path):
    result = train_process("custom_rnn", "--data", small_zip, "--out", tmp_path / "run")
    assert result.returncode == 1
    assert "unknown model 'custom_rnn'; known: custom_cnn" in result.stderr


def test_missing_data_is_answered_with_the_path(tmp_path: Path):
    result = train_process("custom_cnn", "--data", tmp_path / "none.zip", "--out", tmp_path / "run")
    assert result.returncode == 1
    assert "none.zip: no such file" in result.stderr
    assert not (tmp_path / "run").exists()


def test_vgg16_is_fine_tuned_at_the_sides_asked_for(small_zip: Path, tmp_path: Path):
    folder = tmp_path / "run"
    settings = ("--sides", "32,40", "--batch-size", 16)
    arguments = ("vgg16", "--data", small_zip, "--out", folder, "--epochs", 2, *settings)
    result = train_process(*arguments, "--limit", 70, "--backbone-weights", "none")
    assert result.returncode == 0, result.stderr
    assert [row["epoch"] for row in history(folder)] == ["1", "2"]
    description = json.loads((folder / "run.json").read_text())
    assert description["recipe"]["sides"] == [32, 40]
    assert description["backbone_weights"] is None
    network = load_network(RunFolder(folder))
    assert network.get_layer("upsampling").side == 40


def test_custom_cnn_is_distilled_from_a_run_and_a_model(
    small_zip: Path, tensorflow_run: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    teachers = ("--teacher", tensorflow_run, "--teacher", MODELS / "light.onnx")
    arguments = ("--data", small_zip, "--out", folder, "--epochs", 1, "--limit", 70, *teachers)
    result = train_process("custom_cnn", *arguments)
    assert result.returncode == 0, result.stderr
    run = json.loads((folder / "run.json").read_text())
    assert run["holdout_seen_by"] == ["run"]  # with all faces its hold-out was another
    assert "run learned from the hold-out" in result.stderr
    described = run["teachers"]
    weights = [tensorflow_run / "best.weights.h5", MODELS / "light.onnx"]
    assert [teacher["network"] for teacher in described] == ["custom_cnn", "light"]
    assert [teacher["weights_sha256"] for teacher in described] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in weights
    ]
    assert load_network(RunFolder(folder)).count_params() < 6e6  # the student's alone


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("custom_cnn", {"teachers": [Path("nowhere")]}, "nowhere/best.weights.h5: no such file"),
        ("custom_cnn", {"teachers": [Path("none.onnx")]}, r"none\.json: No such file"),
        ("custom_cnn", {"teachers": [MODELS / "crowd.onnx"]}, "needs --votes"),
        ("light", {}, "learns from FER\\+ votes too"),
        ("vgg16", {"backbone_weights": "none.h5"}, r"none\.h5: no such file"),
        ("custom_cnn", {"backbone_weights": "none.h5"}, "begins with no pretrained backbone"),
        ("vgg16", {"start_from": Path("none.onnx")}, r"none\.onnx: no such file"),
    ],
    ids=[
        "no-run",
        "no-teacher",
        "votes-unasked",
        "no-votes",
        "no-pretrained-weights",
        "no-backbone",
        "no-start",
    ],
)
def test_a_run_that_cannot_be_made_leaves_no_folder(
    small_zip: Path, tmp_path: Path, model: str, settings: dict, message: str
):
    folder = RunFolder(tmp_path / "run")
    recipe = find_recipe(model, "default", precision="float32")
    with pytest.raises(TrainingError, match=message):
        train(recipe, read_fer2013(small_zip), folder, **settings)
    assert not folder.root.exists()


def test_gpu_run_leaves_its_weights_in_parts_with_their_checksum(small_zip: Path, tmp_path: Path):
    script = Path(ferserve_training.__file__).with_name("gpu_run.sh")
    variables = {"PYTHON": sys.executable, "KERAS_BACKEND": "tensorflow"}
    variables["EXTRA"] = "--limit 70 --epochs 1 --batch-size 32"
    for name in ("onnxruntime", "limits", "pydantic_settings"):  # a GPU host has none of these
        missing = f"raise ModuleNotFoundError('No module named {name}', name={name!r})"
        (tmp_path / f"{name}.py").write_text(missing)
    variables["PYTHONPATH"] = str(tmp_path)
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
