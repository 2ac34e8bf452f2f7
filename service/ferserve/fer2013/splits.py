"""The splits that results are reported on."""

from ferserve.fer2013.duplicates import leak_free_mask
from ferserve.fer2013.reader import Fer2013, Split


def evaluation_splits(dataset: Fer2013) -> dict[str, Split]:
    """Returns the splits that every accuracy of ours is given on, by name.

    ``leak_free`` are the test images that are not, pixel for pixel, training images too.
    """
    test = dataset.test
    return {
        "all": test,
        "public": dataset.public,
        "private": dataset.private,
        "leak_free": test.take(leak_free_mask(test.faces, dataset.train.faces)),
        "train": dataset.train,
    }
