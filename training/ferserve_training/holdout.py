"""The part of Training that a recipe is tuned on."""

import json
from pathlib import Path

import numpy as np
from ferserve.fer2013.dataset import pixel_groups
from ferserve.fer2013.reader import Split
from sklearn.model_selection import StratifiedGroupKFold

from ferserve_training import TrainingError


def split_training(
    train: Split, share: float, limit: int | None = None, seed: int = 0
) -> tuple[Split, Split]:
    """Divides the training faces as a run with these settings does.

    The hold-out is stratified by emotion. Faces that agree in all pixels stay on one side: Training
    repeats 1,236 of its images, and a network that has seen a face scores too well on its copy.

    Args:
        train: The Training images.
        share: Of the hold-out, such as 0.1; 1 / share is rounded to a whole number. 0 for none.
        limit: Use only this many faces, drawn at random; all if None.
        seed: Of the draw and the hold-out.

    Returns:
        The faces to fit and the hold-out, which is empty where ``share`` is 0.

    Raises:
        TrainingError: No emotion has enough faces for so small a share.
    """
    if limit is not None:
        train = train.take(np.random.default_rng(seed).permutation(len(train))[:limit])
    if not share:
        return train, train.take(np.arange(0))
    folds = StratifiedGroupKFold(n_splits=round(1 / share), shuffle=True, random_state=seed)
    try:
        rest, holdout = next(folds.split(train.faces, train.labels, pixel_groups(train.faces)))
    except ValueError as error:
        raise TrainingError(f"too few faces for a hold-out of {share:g}") from error
    return train.take(rest.astype(np.int64)), train.take(holdout.astype(np.int64))


def has_seen(path: Path, holdout: Split) -> bool:
    """Whether a model, or one that it learned from, was fitted to faces of a hold-out.

    Args:
        path: A run's folder, its weights, or an ONNX file. Its description or its card says what
            was held out; where nothing says so, nothing is assumed.
        holdout: Of a run that goes on from the model or is taught by it.
    """
    if path.suffix == ".onnx":
        described = path.with_suffix(".json")
    else:
        described = (path if path.is_dir() else path.parent) / "run.json"
    if not len(holdout) or not described.exists():
        return False
    document = json.loads(described.read_text(encoding="utf-8"))
    training = document.get("training", document)
    ours = holdout.sha256()
    return bool(training.get("holdout_seen_by")) or training.get("holdout_sha256", ours) != ours
