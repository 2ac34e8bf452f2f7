"""Several devices: two virtual ones of the CPU, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "two_devices.py"


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def report(request, tmp_path_factory):
    environment = os.environ | {
        "KERAS_BACKEND": request.param,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run(
        [sys.executable, SCRIPT, tmp_path_factory.mktemp("weights")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_two_devices_hold_the_weights(report):
    assert (report["one"]["replicas"], report["two"]["replicas"]) == (1, 2)


@pytest.mark.parametrize("figure", ["loss", "val_loss", "kernel"])
def test_two_devices_train_what_one_does(report, figure: str):
    assert np.allclose(report["one"][figure], report["two"][figure], atol=1e-4)


def test_training_got_somewhere(report):
    first, *_, last = report["two"]["loss"]
    assert last < first


def test_all_is_what_is_there_and_what_is_not_is_refused(report):
    assert report["all"] == 2
    assert report["refusals"] == [
        "--devices 3: there are 2; a number of them, or all",
        "--devices none: there are 2; a number of them, or all",
        "2 devices cannot share batches of 7 evenly",
    ]
