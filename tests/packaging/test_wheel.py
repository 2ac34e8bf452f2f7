"""The wheel works anywhere: installed into an environment of its own, run from ``/``."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CARRIED = {"custom_cnn", "light", "crowd"}
"""Models that a wheel has if the repository does."""

PACKAGES = {"ferserve", "ferserve_training", "ferserve_export"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, REPOSITORY], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; what it depends on is borrowed from this one.

    A folder that a ``.pth`` file adds is searched last, and its own ``.pth`` files are not read,
    so ferserve can come from nowhere but the wheel.
    """
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False)
    (packages,) = root.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    return root / "bin" / "python"


def environment(**variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if "FERSERVE_" not in k and k != "PYTHONPATH"}
    return kept | variables


def ferserve(python: Path, *arguments: str | Path, **variables: str):
    return subprocess.run(
        [python, "-m", "ferserve", *arguments],
        cwd="/",
        env=environment(**variables),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def address(python: Path) -> Iterator[str]:
    """Of a server that runs from the wheel."""
    process = subprocess.Popen(
        [python, "-m", "ferserve", "serve", "--port", "0"],
        cwd="/",
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr.readline, "")
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in lines)))
        yield found.group()
    finally:
        process.kill()
        process.communicate()


def test_it_leaves_nothing_but_packages_of_ferserve(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == PACKAGES


def test_it_is_imported_from_the_environment(python: Path):
    code = "import ferserve; print(ferserve.__file__)"
    shown = subprocess.run(
        [python, "-c", code], cwd="/", env=environment(), capture_output=True, text=True
    )
    assert Path(shown.stdout.strip()).is_relative_to(python.parents[1])


def test_it_recognises_a_photo_without_a_server(python: Path, photo, tmp_path: Path):
    picture = tmp_path / "astronaut.png"
    picture.write_bytes(photo("astronaut"))
    code = f"""
from ferserve import Recognizer
with Recognizer() as recognizer:
    print(*[face.dominant_emotion for face in recognizer.recognize({str(picture)!r}).faces])
"""
    shown = subprocess.run(
        [python, "-c", code], cwd="/", env=environment(), capture_output=True, text=True
    )
    assert (shown.stdout, shown.returncode) == ("happy\n", 0), shown.stderr


def test_it_serves(address: str, photo):
    give_up = time.monotonic() + 60
    while httpx.get(f"{address}/readyz").status_code != 200 and time.monotonic() < give_up:
        time.sleep(0.05)
    answer = httpx.post(
        f"{address}/v1/emotion",
        content=photo("astronaut"),
        headers={"Content-Type": "image/png"},
        timeout=60,
    ).json()
    assert [face["dominant_emotion"] for face in answer["faces"]] == ["happy"]


def test_it_lists_the_models_that_it_carries(python: Path):
    listed = ferserve(python, "models", "--json")
    expected = {name for name in CARRIED if (REPOSITORY / "models" / f"{name}.json").exists()}
    assert {card["name"] for card in json.loads(listed.stdout)} == expected
    assert expected == CARRIED


def test_a_folder_without_models_is_an_error(python: Path, tmp_path: Path):
    listed = ferserve(python, "models", "--models-dir", tmp_path)
    assert listed.returncode == 1
    assert f"{tmp_path}: holds no model" in listed.stderr


@pytest.mark.parametrize("command", [["serve"], ["models"], ["predict", "photo.jpg"]])
def test_without_onnx_runtime_it_says_what_to_install(
    python: Path, tmp_path: Path, command: list[str]
):
    # A module that cannot be found, found first.
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('No module named onnxruntime', name='onnxruntime')"
    )
    shown = ferserve(python, *command, PYTHONPATH=str(tmp_path))
    assert shown.returncode == 1
    assert "pip install 'ferserve[cpu]'" in shown.stderr


def test_without_onnx_runtime_a_recognizer_says_what_to_install(python: Path, tmp_path: Path):
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('No module named onnxruntime', name='onnxruntime')"
    )
    shown = subprocess.run(
        [python, "-c", "from ferserve import Client, Recognizer"],
        cwd="/",
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert "pip install 'ferserve[cpu]'" in shown.stderr.splitlines()[-1]
