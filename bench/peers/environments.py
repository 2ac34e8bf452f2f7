# ruff: noqa: T201 - helps scripts that talk to the person who runs them
"""A virtual environment for each peer, made once and kept."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

LIST_VERSIONS = (
    "import importlib.metadata as m, json, sys; "
    "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
)


def environment(name: str, cache: Path) -> Path:
    """Returns the folder of programs of a peer's environment, which is made where it is not there.

    Raises:
        subprocess.CalledProcessError: It cannot be installed; pip has printed why.
    """
    requirements = HERE / f"requirements-{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    done = folder / "installed"
    if not done.exists():
        print(f"installing {name} into {folder} …", flush=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)  # noqa: S603
        subprocess.run([*pip, "--quiet", "-r", requirements], check=True)  # noqa: S603
        done.touch()
    return folder / "bin"


def versions(programs: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Returns the versions of packages that are installed there."""
    printed = subprocess.run(  # noqa: S603
        [programs / "python", "-c", LIST_VERSIONS, *packages],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, str] = json.loads(printed)
    return found
