"""How this machine's pip reaches its index, as secrets that a build can use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

MEANT_FOR_ANY_MACHINE = ("index-url", "trusted-host", "proxy", "timeout", "retries")
"""Other options name files of this machine, or what is to be installed on it."""

CA_IN_THE_BUILD = "/run/secrets/ca.pem"


def write_secrets(folder: Path) -> dict[str, Path]:
    """Writes the secrets ``pip.conf`` and, where pip has a certificate bundle, ``ca.pem``.

    Returns:
        Files of ``folder`` by the name of the secret.
    """
    settings = _settings()
    lines = [f"{name} = {settings[name]}" for name in MEANT_FOR_ANY_MACHINE if name in settings]
    extra = [url for url in settings.get("extra-index-url", "").split() if url.startswith("http")]
    lines += [f"extra-index-url = {' '.join(extra)}"] if extra else []
    secrets = {}
    if bundle := settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE"):
        secrets["ca.pem"] = folder / "ca.pem"
        secrets["ca.pem"].write_bytes(Path(bundle).read_bytes())
        lines.append(f"cert = {CA_IN_THE_BUILD}")
    secrets["pip.conf"] = folder / "pip.conf"
    secrets["pip.conf"].write_text("\n".join(["[global]", *lines, ""]))
    return secrets


def _settings() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = {}
    # Variables of the environment stand first, and come before files.
    for line in reversed(listed.stdout.splitlines()):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return settings
