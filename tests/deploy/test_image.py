"""The image, built by buildah without a Docker engine, run as its user, and asked.

``make image-check``, as root; elsewhere these tests are skipped. ``BASE_IMAGE`` is what buildah can
pull; ``SECRETS`` are secrets of the build, such as ``id=pip.conf,src=pip.conf``.
"""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = os.environ.get("BASE_IMAGE", "")
SECRETS = os.environ.get("SECRETS", "").split()
IMAGE = "localhost/ferserve-check"
START_UP_SECONDS = 120
NOT_FOR_THE_IMAGE = (
    "usr/bin/cc", "usr/bin/gcc", "usr/bin/ld", "usr/bin/make",
    "opt/ferserve/lib/python3*/site-packages/tensorflow*",
    "opt/ferserve/lib/python3*/site-packages/pip",
    "opt/ferserve/lib/python3*/site-packages/tests",
    "src", "opt/pip", "run/secrets/*", "etc/pip.conf", "opt/**/*.zip",
)  # fmt: skip

pytestmark = pytest.mark.skipif(not BASE, reason="make image-check builds the image")


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, storage: Path) -> None:
        self._command = ["buildah", "--storage-driver=vfs"]
        self._command += [f"--root={storage / 'images'}", f"--runroot={storage / 'run'}"]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*self._command, *arguments], start_new_session=True)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    return Buildah(tmp_path_factory.mktemp("buildah"))


@pytest.fixture(scope="module")
def container(buildah: Buildah) -> Iterator[str]:
    """A container of the image."""
    base = buildah("pull", "--quiet", BASE).splitlines()[-1]
    buildah(
        "build",
        "--isolation=chroot",
        "--format=docker",  # the other format has no health check
        "--target=cpu",
        "--pull-never",
        f"--build-arg=BASE_IMAGE={base}",
        *(f"--secret={secret}" for secret in SECRETS),
        f"--tag={IMAGE}",
        str(REPOSITORY),
    )
    name = buildah("from", "--pull-never", IMAGE)
    yield name
    buildah("rm", name)
    buildah("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def described(buildah: Buildah, container: str) -> dict:
    """The image's configuration and history, in Docker's words."""
    return json.loads(buildah("inspect", "--type=image", IMAGE))["Docker"]


@pytest.fixture(scope="module")
def service(buildah: Buildah, container: str, described: dict) -> Iterator[tuple[str, str]]:
    """The image's command as a running service: its address and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    settings = ("--env=FERSERVE_HOST=127.0.0.1", f"--env=FERSERVE_PORT={port}")
    run = ("run", "--isolation=chroot", *settings, container, "--")
    process = buildah.start(*run, *described["config"]["Cmd"])
    try:
        give_up = time.monotonic() + START_UP_SECONDS
        while time.monotonic() < give_up and process.poll() is None:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url, port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_it_recognises_the_astronaut(service, photo):
    answer = httpx.post(f"{service[0]}/v1/emotion", content=photo("astronaut"), timeout=60)
    assert [face["dominant_emotion"] for face in answer.json()["faces"]] == ["happy"]


def test_its_health_check_succeeds(buildah, container, described, service):
    command = described["config"]["Healthcheck"]["Test"][1:]
    port = f"--env=FERSERVE_PORT={service[1]}"
    buildah("run", "--isolation=chroot", port, container, "--", *command)


def test_it_runs_as_a_user_without_rights(buildah, container):
    assert buildah("run", "--isolation=chroot", container, "--", "id", "-u") == "10001"


def test_it_holds_no_compiler_no_training_no_data_and_no_secret(buildah, container, described):
    root = Path(buildah("mount", container))
    assert not [str(path) for pattern in NOT_FOR_THE_IMAGE for path in root.glob(pattern)]
    for secret in SECRETS:
        told = Path(secret.partition("src=")[2]).read_text(errors="replace")
        assert not [url for url in re.findall(r"\w+://\S+", told) if url in json.dumps(described)]


def test_it_is_labelled(described):
    names = {name.rpartition(".")[2] for name in described["config"]["Labels"]}
    assert {"title", "licenses", "version", "revision"} <= names
