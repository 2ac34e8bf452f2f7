"""A small made-up data set in FER2013's layout: an emotion is a pattern, not a face."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.fer2013.reader import Fer2013
from ferserve.fer2013.votes import CHOICES
from PIL import Image

FOLDERS = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}


def face(emotion: int, rng: np.random.Generator) -> np.ndarray:
    """A grating whose direction tells the emotion, with noise: uint8 [48, 48]."""
    y, x = np.mgrid[:FACE_SIDE, :FACE_SIDE] / FACE_SIDE
    angle = np.pi * emotion / len(EMOTIONS)
    wave = np.sin(20 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
    noisy = 128 + 80 * wave + rng.normal(0, 12, wave.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_zip(path: Path, train: int = 20, test: int = 4, seed: int = 0) -> Path:
    """Writes that many images a class and usage, in the layout of the Kaggle download."""
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w") as archive:
        for usage, folder in FOLDERS.items():
            for label, emotion in enumerate(EMOTIONS):
                for number in range(train if usage == "Training" else test):
                    name = f"{folder}/{emotion}/{usage}_{label * 1000 + number}.jpg"
                    archive.writestr(name, jpeg(face(label, rng)))
    return path


def write_csv(path: Path, dataset: Fer2013) -> Path:
    """Writes the same images in the layout of the original ``fer2013.csv``."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        splits = (dataset.train, dataset.public, dataset.private)
        for usage, split in zip(FOLDERS, splits, strict=True):
            for pixels, label in zip(split.faces, split.labels, strict=True):
                writer.writerow([label, " ".join(map(str, pixels.ravel())), usage])
    return path


def write_votes(path: Path, counts: Mapping[str, Sequence[int]]) -> Path:
    """Writes FER+ votes by image, in the order of ``CHOICES``."""
    return _write_table(path, ["image", *CHOICES], ([name, *row] for name, row in counts.items()))


def write_published_votes(path: Path, counts: Iterable[Sequence[int]]) -> Path:
    """Writes the same votes in the layout of the published ``fer2013new.csv``, one row a face."""
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    order = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", *CHOICES[7:]]
    rows = (
        ["Training", f"fer{number:07}.png", *(row[CHOICES.index(name)] for name in order)]
        for number, row in enumerate(counts)
    )
    return _write_table(path, [*header.split(","), "unknown", "NF"], rows)


def _write_table(path: Path, header: list[str], rows: Iterable[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
