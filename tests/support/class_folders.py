"""Zips of class folders, as callers upload them: good ones and bad ones."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from PIL import Image
from synthetic_fer2013 import face


def encoded(pixels: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def images(count: int = 2, seed: int = 0, format: str = "PNG") -> dict[str, bytes]:
    """``{"angry/0.png": …}``: that many images of every emotion."""
    rng = np.random.default_rng(seed)
    return {
        f"{emotion}/{number}.{format.lower()}": encoded(face(label, rng), format)
        for label, emotion in enumerate(EMOTIONS)
        for number in range(count)
    }


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()
