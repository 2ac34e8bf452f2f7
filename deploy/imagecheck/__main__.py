# ruff: noqa: T201 - talks to the person who runs it
"""Builds the image without a Docker engine, starts the service from it, and tests that.

Needs root and, of Debian's packages, buildah and debootstrap.
"""

import argparse
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from container import Running, running
from images import Storage, size_of
from pip_settings import write_secrets

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "debootstrap")
MEGABYTE = 10**6
LARGEST = 400 * MEGABYTE
"""Bytes of the image on top of its base."""
READY_SECONDS = 5.0
NOT_FOR_THE_IMAGE = (
    "usr/bin/cc", "usr/bin/gcc", "usr/bin/ld", "usr/bin/make",
    "opt/ferserve/lib/python3*/site-packages/tensorflow*",
    "opt/ferserve/lib/python3*/site-packages/pip",
    "opt/ferserve/lib/python3*/site-packages/tests",
    "src", "opt/pip", "run/secrets/*", "etc/pip.conf", "opt/**/*.zip",
)  # fmt: skip


class Report:
    """Says what was found, and remembers whether all was well."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, what: str, found: object, well: bool = True) -> None:
        """Prints one line."""
        self.failed |= not well
        print(f"{'ok    ' if well else 'FAILED'}  {what}: {found}", flush=True)


def main() -> int:
    """Runs all checks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", help="a base image that buildah can pull; made if not given")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        print(f"image-check needs root, {', '.join(TOOLS)}; not found: {', '.join(missing)}")
        return 2
    report = Report()
    with tempfile.TemporaryDirectory(prefix="image-check-") as name:
        check(Path(name), arguments.base, report)
    return int(report.failed)


def check(folder: Path, given_base: str | None, report: Report) -> None:
    """Builds, starts and tests; everything it makes lies in ``folder``."""
    storage = Storage(folder / "storage")
    secrets = write_secrets(folder)
    started = time.monotonic()
    base = storage.pull(given_base) if given_base else storage.make_base()
    report("base", f"{given_base or 'debootstrap'}, {time.monotonic() - started:.0f} s")
    started = time.monotonic()
    image = storage.build(REPOSITORY, base, secrets, revision())
    report("build", f"{time.monotonic() - started:.0f} s")
    with storage.container_of(base) as container:
        base_size = size_of(container.root)
    description = storage.describe(image)
    with storage.container_of(image) as container:
        size = size_of(container.root) - base_size
        report("size of the base", f"{base_size / MEGABYTE:.0f} MB")
        report("size on top of it", f"{size / MEGABYTE:.0f} MB", size < LARGEST)
        inspect(container.root, description, secrets, report)
        config = description["config"]
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        # As tests/e2e/conftest.py starts the service that its tests share.
        settings = {
            "FERSERVE_HOST": "127.0.0.1",
            "FERSERVE_PORT": str(port),
            "FERSERVE_DEFAULT_MODEL": "custom_cnn",
            "FERSERVE_MAX_UPLOAD_BYTES": str(4 * 1024 * 1024),
            "FERSERVE_LOG_FORMAT": "json",
            "FERSERVE_DATASET": "",
        }
        with running(folder / "log", container.root, config, settings, url) as service:
            look_at(service, config, report)
            ask(url, report)
            run_tests(url, report)
            status = service.terminate()
            report("exit status after SIGTERM", status, status == 0)


def inspect(
    root: Path, description: dict[str, Any], secrets: dict[str, Path], report: Report
) -> None:
    """Looks at the image itself."""
    config = description["config"]
    report("user", config["User"], config["User"].split(":")[0] not in ("", "0", "root"))
    report("health check", "yes", "/readyz" in str(config.get("Healthcheck")))
    labels = {key.rpartition(".")[2]: value for key, value in (config.get("Labels") or {}).items()}
    report("labels", labels, {"title", "licenses", "version", "revision"} <= set(labels))
    found = [str(path) for pattern in NOT_FOR_THE_IMAGE for path in root.glob(pattern)]
    report("compilers, tests, TensorFlow, data, secrets", found or "none", not found)
    told = json.dumps(description)
    addresses = re.findall(r"\w+://\S+", secrets["pip.conf"].read_text())
    traces = [address for address in addresses if address in told]
    report("traces of this machine", traces or "none", not traces)


def look_at(service: Running, config: dict[str, Any], report: Report) -> None:
    """Looks at the running container from outside and from inside."""
    took = f"{service.ready_seconds:.2f} s, {service.processor_seconds:.2f} s of a processor"
    report("ready after", took, service.ready_seconds < READY_SECONDS)
    status = service.status()
    report("runs as", f"uid {status['Uid'].split()[0]}", "0" not in status["Uid"].split())
    rights = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
    report("capabilities", hex(rights) if rights else "none", not rights)
    locked = status["NoNewPrivs"] == "1"
    report("new privileges", "impossible" if locked else "possible", locked)
    options = service.root_options()
    report("root file system", "read-only" if "ro" in options else "writable", "ro" in options)
    written = service.execute("python", "-c", "open('/opt/models/new', 'w')")
    refusal = "".join(written.stderr.splitlines()[-1:])
    report("writing", refusal or "possible", "Read-only file system" in refusal)
    healthy = service.execute(*config["Healthcheck"]["Test"][1:])
    report("health check's exit status", healthy.returncode, healthy.returncode == 0)


def ask(url: str, report: Report) -> None:
    """Sends the astronaut's photo."""
    import skimage.data
    from skimage.io import imsave

    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        imsave(file.name, skimage.data.astronaut())
        body = json.dumps({"image": base64.b64encode(Path(file.name).read_bytes()).decode()})
    request = urllib.request.Request(  # noqa: S310 - our own URL
        f"{url}/v1/emotion", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        faces = json.load(response)["faces"]
    said = [(face["dominant_emotion"], round(face["confidence"], 3)) for face in faces]
    report("the astronaut is", said, [emotion for emotion, _ in said] == ["happy"])


def run_tests(url: str, report: Report) -> None:
    """Runs the end-to-end tests against the service."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/e2e", "-q", "-p", "no:cacheprovider", "-r", "f"],
        cwd=REPOSITORY,
        env=os.environ | {"FERSERVE_URL": url},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    well = ended.returncode == 0
    if not well:
        print(ended.stdout)
    report("end-to-end tests", ended.stdout.splitlines()[-1], well)


def revision() -> str:
    """Returns the commit that is checked out, for the image's label."""
    git = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or "unknown"


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
