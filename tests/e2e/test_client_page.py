"""The examples of docs/client.md, run as they stand against a real server."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "client.md").read_text()
EXAMPLES = dict(
    zip(
        [
            "here",
            "pixels",
            "many",
            "errors",
            "restart",
            "video",
            "benchmark",
            "asynchronous",
        ],
        re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL),
        strict=True,
    )
)


@pytest.fixture(scope="module")
def server(start_server, small_zip, tmp_path_factory):
    log = tmp_path_factory.mktemp("page") / "log"
    with start_server(log, dataset=small_zip, models="") as server:
        yield server


@pytest.fixture
def start(server, photo, grey_crop, tmp_path):
    """Starts an example in a folder with the pictures that the page speaks of."""
    (tmp_path / "photo.jpg").write_bytes(photo("astronaut", format="JPEG"))
    (tmp_path / "photos").mkdir()
    for name, data in {"astronaut.png": grey_crop, "cat.png": photo("chelsea"),
                       "notes.txt": b"text"}.items():  # fmt: skip
        (tmp_path / "photos" / name).write_bytes(data)

    def start(name: str, base_url: str = server.base_url) -> subprocess.Popen[str]:
        code = EXAMPLES[name]
        assert "http://localhost:8000" in code or name == "here"
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code.replace("http://localhost:8000", base_url)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(REPOSITORY / "service"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("here", r"happy 18\d 5\d \[\]"),
        ("pixels", r"happy 5 happy"),
        ("many", r"(\d 3\n){3}astronaut.png \['\w+'\]\ncat.png \[\]\n"
                 r"notes.txt 415 unsupported_media_type"),
        ("errors", r"415 unsupported_media_type\nlook for \w+ in the service's log"),
        ("video", r"(\d face 1 at \d+ happy\n?){8}"),
        ("benchmark", r"crowd \{.*custom_cnn \{.*'private': '\d\d\.\d%'.*\}\n(\w+ \d+ of \d+\n)+"
                      r"\d+\.\d% of 35 faces"),
        ("asynchronous", r"happy\n(\d \d\n?)+"),
    ],
    ids=[name for name in EXAMPLES if name != "restart"],
)  # fmt: skip
def test_an_example_prints_what_it_promises(start, name, expected):
    example = start(name)
    out, err = example.communicate(timeout=120)
    assert example.returncode == 0, err
    assert re.fullmatch(expected, out.strip(), re.DOTALL), out


def test_the_example_of_retries_bridges_a_restart(start, start_server, tmp_path):
    with start_server(tmp_path / "first") as first:
        example = start("restart", first.base_url)
        assert example.stdout.readline() == "0 happy\n"
        assert first.terminate() == 0
    time.sleep(0.5)  # nobody is there
    assert example.poll() is None
    with start_server(tmp_path / "second", port=first.port):
        out, err = example.communicate(timeout=120)
    assert example.returncode == 0, err
    assert out.splitlines()[-1] == "29 happy"
    assert len(out.splitlines()) == 29
