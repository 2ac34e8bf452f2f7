"""How fast ``ferserve score`` is beside the sessions alone.

Makes images from the astronaut, each with noise of its own: FER2013-like crops, and photos of
320x320 pixels in which the face has to be found. Then, with nothing else on the machine:

1. bare: the two sessions, the face detector and the model, with one thread a processor and all
   images decoded beforehand; before and after the other;
2. ``ferserve score`` over the files, from its start to its last row.

    python bench/score.py

Writes ``bench/results/score.json``; ends with status 1 where a row is missing or wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import skimage.data
from ferserve.faces import crop_face
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.models import load_model
from ferserve.serving import load_detector
from ferserve.sessions import Runtime
from ferserve.settings import Settings, usable_cpus
from load import REPOSITORY, RESULTS, described, write_result
from PIL import Image

MODEL = "custom_cnn"
PHOTO_EVERY = 20
"""One image in so many is a photo."""

PHOTO_SIDE = 320
FACE = (161, 54, 289, 182)
"""Of the astronaut: left, top, right, bottom."""


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--bare-images", type=int, default=2_000, help="Of them, for each bare run")
    parser.add_argument("--workers", type=int, help="As for ferserve score")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of score.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        source, target = Path(folder) / "in", Path(folder) / "out"
        write_images(source, options.images)
        sample = min(options.bare_images, options.images)
        bare = [bare_rate(sample)]
        started = time.monotonic()
        summary = run_score(source, target, options.workers)
        seconds = time.monotonic() - started
        bare.append(bare_rate(sample))
        rows = pq.read_table(target)
    photos = len(range(0, options.images, PHOTO_EVERY))
    result: dict[str, Any] = {
        **described(),
        "model": MODEL,
        "images": {"crops 48x48": options.images - photos, f"photos {PHOTO_SIDE}": photos},
        "bare_images_per_second": [round(rate, 2) for rate in bare],
        "score_images_per_second": summary["images_per_second"],
        "score_images_per_second_with_start": round(options.images / seconds, 2),
        "share_of_bare": round(summary["images_per_second"] / max(bare), 3),
        "seconds": {"scoring": summary["seconds"], "with start of Ray": round(seconds, 2)},
        "faces": summary["faces"],
        "problems": summary["problems"],
    }
    result["met"] = {
        "every image has one row": len(set(rows["id"].to_pylist())) == len(rows) == options.images,
        "every face was found": summary["faces"] == options.images,
        "no problems": not summary["problems"],
    }
    write_result("score", result, options.out)


def images(count: int) -> Iterator[tuple[bool, Image.Image]]:
    """Yields whether an image is a photo, and the image; the same every time."""
    astronaut = Image.fromarray(skimage.data.astronaut())
    crop = astronaut.crop(FACE).convert("L").resize((FACE_SIDE, FACE_SIDE))
    random = np.random.default_rng(0)
    for number in range(count):
        is_photo = number % PHOTO_EVERY == 0
        if is_photo:
            left, top = random.integers(0, (100, 40))
            clean = astronaut.crop((left, top, left + PHOTO_SIDE, top + PHOTO_SIDE))
        else:
            clean = crop
        pixels = np.asarray(clean, np.int16)
        noisy = pixels + random.integers(-12, 13, pixels.shape, np.int16)
        yield is_photo, Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write_images(folder: Path, count: int) -> None:
    """Writes photos as JPEG, crops as PNG."""
    folder.mkdir()
    for number, (is_photo, image) in enumerate(images(count)):
        image.save(folder / f"{number:06}.{'jpg' if is_photo else 'png'}")


def bare_rate(count: int) -> float:
    """Returns the images a second of the sessions alone, fed from memory."""
    settings = Settings()
    model = load_model(settings.models_dir, MODEL, Runtime(provider="cpu"))
    detector = load_detector(settings)
    decoded = [(is_photo, np.asarray(image)) for is_photo, image in images(count)]

    def rate(entry: tuple[bool, np.ndarray]) -> None:
        is_photo, pixels = entry
        if is_photo:
            pixels = crop_face(pixels, detector.detect(pixels, max_faces=1)[0].box)
        model.predict(pixels[np.newaxis])

    for entry in decoded[: 2 * PHOTO_EVERY]:
        rate(entry)
    with ThreadPoolExecutor(usable_cpus()) as threads:
        started = time.monotonic()
        list(threads.map(rate, decoded))
        return count / (time.monotonic() - started)


def run_score(source: Path, target: Path, workers: int | None) -> dict[str, Any]:
    """Runs the command and returns its summary."""
    command = [sys.executable, "-m", "ferserve", "score", str(source), str(target), "--json"]
    command += ["--model", MODEL, *(["--workers", str(workers)] if workers else [])]
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


if __name__ == "__main__":
    main()
