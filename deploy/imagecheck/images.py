"""Images built by buildah, without an engine and without a trace on this machine."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE_PACKAGES = "ca-certificates,python3,python3-venv"


@dataclass(frozen=True)
class Container:
    """A container of buildah, which runs nothing: ``root`` is its file system."""

    name: str
    root: Path


@dataclass(frozen=True)
class Storage:
    """Images and containers below one folder, to be removed with it."""

    folder: Path

    def make_base(self) -> str:
        """Installs Debian with Python by debootstrap; returns the image's name."""
        with self.container_of("scratch") as base:
            debootstrap = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}"]
            subprocess.run(  # noqa: S603 - our own command
                [*debootstrap, "bookworm", str(base.root)], stdout=subprocess.DEVNULL, check=True
            )
            for leftover in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
                shutil.rmtree(base.root / leftover)
            return self._buildah("commit", "--quiet", base.name)

    def pull(self, base: str) -> str:
        """Gets a base image, such as ``docker-archive:python.tar``; returns its id."""
        return self._buildah("pull", "--quiet", base).splitlines()[-1]

    def build(self, context: Path, base: str, secrets: Mapping[str, Path], revision: str) -> str:
        """Builds the Dockerfile's target ``cpu``; returns the image's name."""
        name = "localhost/ferserve"
        self._buildah(
            "build",
            "--isolation=chroot",
            "--format=docker",  # the other format has no health check
            "--pull-never",
            "--target=cpu",
            f"--build-arg=BASE_IMAGE={base}",
            f"--build-arg=REVISION={revision}",
            *(f"--secret=id={key},src={path}" for key, path in secrets.items()),
            f"--tag={name}",
            context,
            show=True,
        )
        return name

    def describe(self, image: str) -> dict[str, Any]:
        """Returns an image's configuration and history in Docker's words."""
        inspected = json.loads(self._buildah("inspect", "--type=image", image))
        described: dict[str, Any] = inspected["Docker"]
        return described

    @contextmanager
    def container_of(self, image: str) -> Iterator[Container]:
        """Makes a container of an image, mounts its root, and removes both after."""
        name = self._buildah("from", "--pull-never", image)
        try:
            yield Container(name, Path(self._buildah("mount", name)))
        finally:
            self._buildah("rm", name)

    def _buildah(self, *arguments: object, show: bool = False) -> str:
        """Runs buildah; returns what it prints, or shows it."""
        place = ["--root", self.folder / "images", "--runroot", self.folder / "run"]
        ended = subprocess.run(  # noqa: S603 - our own command
            list(map(str, ["buildah", "--storage-driver=vfs", *place, *arguments])),
            stdout=None if show else subprocess.PIPE,
            text=True,
            check=True,
        )
        return (ended.stdout or "").strip()


def size_of(root: Path) -> int:
    """Adds up the bytes of all files below a folder, hard links once."""
    sizes = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(Path(folder, name))
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())
