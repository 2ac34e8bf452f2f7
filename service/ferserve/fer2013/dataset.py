"""What FER2013 is once it is read: three splits of labelled faces."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

USAGES = ("Training", "PublicTest", "PrivateTest")
"""The data set's own split names: file name prefixes, and values of the CSV column ``Usage``."""

LAYOUT = "train/<emotion>/Training_*.jpg and test/<emotion>/{PublicTest,PrivateTest}_*.jpg"

COLUMNS = ("emotion", "pixels", "Usage")

EXPECTED = f"expected {LAYOUT}, or a CSV with {', '.join(COLUMNS)}"


class DatasetError(ValueError):
    """The path holds no readable FER2013; the message names the file and what was expected."""


@dataclass(frozen=True)
class Split:
    """Labelled faces.

    Attributes:
        faces: uint8 ``[N, 48, 48]``, grey values 0..255.
        labels: int64 ``[N]``, indices into ``EMOTIONS``.
        ids: File names, or ``row-<number>`` for the CSV form; one a face.
    """

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """Returns the faces at these places ``[M]``, in this order."""
        return Split(self.faces[rows], self.labels[rows], tuple(self.ids[i] for i in rows))

    def sha256(self) -> str:
        """Hash of the faces in their order."""
        return hashlib.sha256(self.faces.tobytes()).hexdigest()


@dataclass(frozen=True)
class Fer2013:
    """The whole data set; ``test`` is PublicTest followed by PrivateTest."""

    train: Split
    public: Split
    private: Split

    @property
    def test(self) -> Split:
        """All test images, the reference project's measure."""
        return Split(
            np.concatenate([self.public.faces, self.private.faces]),
            np.concatenate([self.public.labels, self.private.labels]),
            self.public.ids + self.private.ids,
        )

    def evaluation_splits(self) -> dict[str, Split]:
        """Returns the splits that every accuracy of ours is given on, by name.

        ``leak_free`` are the test images that are not, pixel for pixel, training images too.
        """
        test = self.test
        leak_free = np.flatnonzero(leak_free_mask(test.faces, self.train.faces))
        return {
            "all": test,
            "public": self.public,
            "private": self.private,
            "leak_free": test.take(leak_free),
            "train": self.train,
        }

    def sha256(self) -> str:
        """Hash of every labelled image, whatever order or container they came in."""
        digests = [
            hashlib.sha256(usage.encode() + bytes([label]) + face.tobytes()).digest()
            for usage, split in zip(USAGES, (self.train, self.public, self.private), strict=True)
            for face, label in zip(split.faces, split.labels.tolist(), strict=True)
        ]
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def pixel_groups(faces: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers faces uint8 ``[N, 48, 48]``, those that agree in every pixel alike.

    Returns:
        int64 ``[N]``, numbers from 0 in order of first appearance.
    """
    numbers: dict[bytes, int] = {}
    groups = [numbers.setdefault(face.tobytes(), len(numbers)) for face in faces]
    return np.array(groups, np.int64)


def leak_free_mask(test: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tells which test faces ``[N, 48, 48]`` are not among the training faces: bool ``[N]``."""
    seen = {face.tobytes() for face in train}
    return np.array([face.tobytes() not in seen for face in test], np.bool_)
