"""The server on a file system it cannot write to, as nobody, and watched for trying."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
WATCH = REPOSITORY / "tests" / "support" / "write_watch"
NOBODY = 65534


def nobody() -> dict[str, object]:
    """Runs a process without rights, where this one has more and others may read what it needs."""
    needed = [REPOSITORY, Path(sys.executable).absolute(), Path(sys.executable).resolve()]
    folders = [folder for path in needed for folder in (path.parent, *path.parent.parents)]
    readable = all(folder.stat().st_mode & 0o5 == 0o5 for folder in folders)
    if os.geteuid() == 0 and readable:
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return {}


@pytest.fixture
def watch():
    """Options of a process that cannot write, and a function that returns what it tried."""
    told, telling = os.pipe()
    os.set_blocking(told, False)
    environment = {
        "PYTHONPATH": f"{WATCH}{os.pathsep}{REPOSITORY}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WRITE_WATCH": str(telling),
    }

    def tried() -> list[str]:
        try:
            return os.read(told, 65536).decode().splitlines()
        except BlockingIOError:
            return []

    yield {"cwd": "/", "env": environment, "pass_fds": [telling]}, tried
    os.close(told)
    os.close(telling)


def upload() -> bytes:
    """A file larger than a megabyte, at which most form parsers begin a temporary file."""
    file = io.BytesIO()
    Image.effect_noise((1300, 1000), 80).save(file, "PNG")
    assert len(file.getvalue()) > 1024 * 1024
    return file.getvalue()


def use_everything(server, photo, grey_crop) -> None:
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        found = client.post("/v1/emotion", files={"file": photo("astronaut")})
        assert len(found.json()["faces"]) == 1
        large = client.post("/v1/emotion", files={"file": upload()})
        assert large.status_code == 200
        images = [("files", image) for image in (grey_crop, upload(), b"no image")]
        assert len(client.post("/v1/emotion/batch", files=images).json()["items"]) == 3
        for path in ("/docs", "/openapi.json", "/metrics", "/v1/models", "/v1/benchmark"):
            assert client.get(path).status_code == 200
        assert client.post("/v1/emotion", content=b"{").status_code == 415
    assert server.terminate() == 0


def test_it_serves_where_nothing_can_be_written(start_server, tmp_path, watch, photo, grey_crop):
    options, tried = watch
    options["env"] |= {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    where = options | nobody()
    with start_server(tmp_path / "log", process_options=where, models="") as server:
        use_everything(server, photo, grey_crop)
    assert tried() == []


def test_it_writes_nothing_where_it_could(start_server, tmp_path, watch, photo, grey_crop):
    options, tried = watch
    folder = tmp_path / "home"
    folder.mkdir()
    options["cwd"] = folder
    options["env"] |= {"HOME": str(folder), "TMPDIR": str(folder)}
    with start_server(tmp_path / "log", process_options=options, models="") as server:
        use_everything(server, photo, grey_crop)
    assert tried() == []
    assert list(folder.iterdir()) == []


WRITES_FROM_C = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.write(libc.open(b"from_c", os.O_WRONLY | os.O_CREAT, 0o600), b"x", 1)
"""


@pytest.mark.parametrize(
    ("program", "told", "status"),
    [
        ("open('from_python', 'w').write('x')", "from_python", -signal.SIGXFSZ),
        ("import os; os.mkdir('folder')", "folder", 0),
        ("import tempfile; tempfile.TemporaryFile(dir='.')", "w+", 0),
        (WRITES_FROM_C, "", -signal.SIGXFSZ),
        ("open('/dev/zero').read(1); print('hello')", "", 0),
    ],
    ids=["a file", "a folder", "a temporary file", "a file from C", "nothing"],
)
def test_the_watch_catches_whoever_writes(tmp_path, watch, program, told, status):
    options, tried = watch
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=30,
        **options | {"cwd": tmp_path, "env": os.environ | options["env"]},
    )
    assert ended.returncode == status, ended.stderr
    events = tried()
    assert bool(events) == bool(told)
    assert not told or told in events[0]
