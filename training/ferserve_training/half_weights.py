"""Rewrites a weights file in float16, which halves it: ``half_weights.py SOURCE TARGET``.

Keras loads such a file into float32 variables. Batch statistics fit: they are below 65,504.
"""

import sys

import h5py
import numpy as np


def halve(source: str, target: str) -> None:
    """Copies an HDF5 file with every float32 data set as float16."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
                new[name] = item[()].astype(np.float16)
            elif isinstance(item, h5py.Dataset):
                new[name] = item[()]
            else:
                new.require_group(name).attrs.update(item.attrs)

        old.visititems(copy)


if __name__ == "__main__":
    halve(*sys.argv[1:3])
