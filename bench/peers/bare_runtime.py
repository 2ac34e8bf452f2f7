"""The limit: ONNX Runtime in a loop, with no service around it.

Runs as a process of its own, so that it can be given the same processors as a service:

    python bench/peers/bare_runtime.py models/custom_cnn.onnx --cores 2 --seconds 5

Prints a JSON list with a measurement a setting, or of only one: ``--setting 2,1,8`` runs two loops
with one thread inside a run and batches of 8; with ``--vary`` of 4 to 8 as it happens, as callers
come, so that the loops do not read the same weights at the same moments. With ``--photo FILE`` the
loop decodes that photo, finds its faces and cuts them out, too, with ferserve's own functions.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# ONNX Runtime reads this when it is imported, and would else report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

BATCHES = (1, 4, 8, 16, 32)


def main() -> None:
    """Measures every setting and prints what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--setting", help="loops,threads,batch")
    parser.add_argument("--vary", action="store_true")
    parser.add_argument("--photo", type=Path)
    options = parser.parse_args()
    if options.photo:
        found = [photo_loop(options)]
    else:
        found = [faces_loop(options, *setting) for setting in settings(options)]
    print(json.dumps(found))  # noqa: T201


def settings(options: argparse.Namespace) -> list[tuple[int, ...]]:
    """Returns loops, threads inside a run, and batch of what is to be measured."""
    if options.setting:
        return [tuple(map(int, options.setting.split(",")))]
    ways = sorted({(options.cores, 1), (1, options.cores)})
    return [(*way, batch) for way in ways for batch in BATCHES]


def faces_loop(options: argparse.Namespace, threads: int, intra: int, batch: int) -> dict[str, Any]:
    """Runs ``threads`` loops over one session whose runs use ``intra`` threads each."""
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads, session_options.inter_op_num_threads = intra, 1
    session_options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(options.model, session_options, ["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    least = max(1, batch // 2) if options.vary else batch
    batches = [
        random.integers(0, 256, (size, 48, 48), np.uint8) for size in range(least, batch + 1)
    ]

    def once() -> int:
        faces = batches[random.integers(len(batches))]
        session.run(None, {"faces": faces})
        return len(faces)

    measured = measure(once, threads, options.seconds)
    return {"loops": threads, "threads_inside_a_run": intra, "batch": batch, **measured}


def photo_loop(options: argparse.Namespace) -> dict[str, Any]:
    """Runs a loop a processor from the bytes of a photo to the probabilities of its faces."""
    from ferserve.faces import load_face_detector
    from ferserve.models import load_model
    from ferserve.preparation import Preparer
    from ferserve.schemas import EmotionOptions
    from ferserve.sessions import Runtime
    from ferserve.settings import Settings

    defaults = Settings()
    detector = load_face_detector(
        options.model.parent / "face_detector.onnx", defaults.detect_max_side
    )
    preparer = Preparer(detector, defaults.max_pixels)
    model = load_model(options.model.parent, options.model.stem, Runtime(provider="cpu"))
    photo = options.photo.read_bytes()

    def once() -> int:
        found = preparer.prepare(photo, EmotionOptions(), defaults.max_faces, time.monotonic())
        model.predict(np.stack([face.crop for face in found.faces]))
        return len(found.faces)

    return {"loops": options.cores, **measure(once, options.cores, options.seconds)}


def measure(once: Callable[[], int], loops: int, seconds: float) -> dict[str, float]:
    """Calls ``once``, which returns how many faces it rated, in as many threads as loops."""

    def loop(deadline: float) -> int:
        faces = 0
        while time.monotonic() < deadline:
            faces += once()
        return faces

    with ThreadPoolExecutor(loops) as pool:
        list(pool.map(loop, [time.monotonic() + min(1.0, seconds)] * loops))
        started, used = time.monotonic(), time.process_time()
        faces = sum(pool.map(loop, [started + seconds] * loops))
        wall, cpu = time.monotonic() - started, time.process_time() - used
    return {"faces_per_second": faces / wall, "cpu_seconds_per_face": cpu / faces}


if __name__ == "__main__":
    main()
