"""The part of Training that a recipe is tuned on."""

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from fer2013.duplicates import pixel_groups
from fer2013.reader import Split


def split_holdout(train: Split, share: float, seed: int = 0) -> tuple[Split, Split]:
    """Cuts a hold-out from the training faces, stratified by emotion.

    Faces that agree in all pixels stay on one side: Training repeats 1,236 of its images, and a
    network that has seen a face scores too well on its copy.

    Args:
        train: The Training images.
        share: Share of the hold-out, such as 0.1; 1 / share is rounded to a whole number.
        seed: Of the shuffling.

    Returns:
        The rest and the hold-out.
    """
    folds = StratifiedGroupKFold(n_splits=round(1 / share), shuffle=True, random_state=seed)
    rest, holdout = next(folds.split(train.faces, train.labels, pixel_groups(train.faces)))
    return train.take(rest.astype(np.int64)), train.take(holdout.astype(np.int64))
