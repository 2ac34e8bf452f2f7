"""The machine that is measured, and processes that measure on it."""

import json
import os
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

# ONNX Runtime reads this when it is imported, and would else report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

REPOSITORY = Path(__file__).resolve().parents[1]


def card() -> str | None:
    """Returns the name of the first GPU; None where no NVIDIA driver answers."""
    return nvidia("name")


def nvidia(what: str) -> str | None:
    """Returns what nvidia-smi says of the first GPU; None where it says nothing."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(run.stdout.splitlines()), None)


def described() -> dict[str, Any]:
    """Returns what a result depends on."""
    return {
        "machine": {
            "processor": _processor(),
            "processors": len(os.sched_getaffinity(0)),
            "card": card(),
            "driver": nvidia("driver_version"),
            "power_limit_watt": nvidia("power.limit"),
            "python": platform.python_version(),
        },
        "onnxruntime": {
            "version": onnxruntime.__version__,
            "package": getattr(onnxruntime, "package_name", None),
            "cuda": getattr(onnxruntime, "cuda_version", None),
        },
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def first_lines(command: list[str], seconds: float) -> tuple[list[dict[str, Any]], str | None]:
    """Runs a process that prints JSON objects, one a line, and perhaps other lines.

    Returns:
        The objects that it printed before it ended or its time was over, and why it failed; None
        where it did not.
    """
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(  # noqa: S603 - our own command
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    late = threading.Timer(seconds, process.kill)
    late.start()
    try:
        printed, complaints = process.communicate()
    finally:
        process.kill()  # where this process was interrupted
        timed_out = not late.is_alive()
        late.cancel()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    if process.returncode == 0:
        return lines, None
    if timed_out:
        return lines, f"not done after {seconds:g} s"
    return lines, "\n".join(complaints.strip().splitlines()[-4:])[-1500:] or "it died"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
