"""Reads FER2013 from its form of class folders: a small JPEG a face."""

import io
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ferserve.fer2013.dataset import USAGES, DatasetError, Fer2013, Split
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve.fer2013.names import emotion_label

LAYOUT = "train/<emotion>/Training_*.jpg and test/<emotion>/{PublicTest,PrivateTest}_*.jpg"


def find_roots(names: Iterable[str]) -> dict[PurePosixPath, list[str]]:
    """The images by the folder that holds ``train`` and ``test``; other files are left out."""
    roots: dict[PurePosixPath, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if len(path.parts) >= 3 and path.parts[-3] in ("train", "test") and path.suffix == ".jpg":
            roots.setdefault(path.parent.parent.parent, []).append(name)
    return roots


def read_images(where: str, names: Iterable[str], read: Callable[[str], bytes]) -> Fer2013:
    """Sorts image files into splits by folder and file name.

    Args:
        where: What messages call the data set.
        names: As ``find_roots`` gives them.
        read: Gives a file's bytes by its name.

    Raises:
        DatasetError: A file has no place in the layout, or is no face of the right size.
    """
    members: dict[tuple[str, str, str, str], tuple[str, int]] = {}
    for name in names:
        split, folder, file = PurePosixPath(name).parts[-3:]
        label = emotion_label(folder)
        if label is None:
            known = ", ".join(EMOTIONS)
            raise DatasetError(f"{where}: {name}: unknown emotion {folder!r}; expected {known}")
        usage = file.split("_")[0]
        if usage not in USAGES or (usage == "Training") != (split == "train"):
            raise DatasetError(f"{where}: {name}: expected {LAYOUT}")
        place = (usage, split, EMOTIONS[label], file)
        if place in members:
            raise DatasetError(f"{where}: {name}: is there twice")
        members[place] = (name, label)
    splits = []
    for usage in USAGES:
        entries = [members[place] for place in sorted(members) if place[0] == usage]
        faces = np.empty((len(entries), FACE_SIDE, FACE_SIDE), np.uint8)
        for row, (name, _) in enumerate(entries):
            faces[row] = _decode_face(where, name, read)
        labels = np.array([label for _, label in entries], np.int64)
        splits.append(Split(faces, labels, tuple(PurePosixPath(name).name for name, _ in entries)))
    return Fer2013(*splits)


def _decode_face(where: str, name: str, read: Callable[[str], bytes]) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(read(name))) as image:
            width, height = image.size
            # The size is looked at before the pixels are unpacked.
            if (width, height) == (FACE_SIDE, FACE_SIDE):
                return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: {name}: not a readable JPEG image") from error
    raise DatasetError(f"{where}: {name}: {width}×{height} pixels; expected 48×48")
