"""Images that stand in the data set more than once, found by their pixels."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def pixel_groups(faces: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers the faces so that two have the same number exactly if all their pixels agree.

    Args:
        faces: uint8 ``[N, 48, 48]``.

    Returns:
        int64 ``[N]``, numbers from 0 in order of first appearance.
    """
    numbers: dict[bytes, int] = {}
    groups = [numbers.setdefault(digest, len(numbers)) for digest in _digests(faces)]
    return np.array(groups, np.int64)


def leak_free_mask(test: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tells which test faces are not, pixel for pixel, among the training faces.

    Args:
        test: uint8 ``[N, 48, 48]``.
        train: uint8 ``[M, 48, 48]``.

    Returns:
        bool ``[N]``, true for a face that the training faces do not contain.
    """
    seen = set(_digests(train))
    return np.array([digest not in seen for digest in _digests(test)], np.bool_)


def _digests(faces: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(face.tobytes()).digest() for face in faces]
