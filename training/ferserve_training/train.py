"""One training run: data in, best weights and history out."""

import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.fer2013.votes import Votes, shares
from ferserve.garbage import keep_freed_blocks

from ferserve_training import TrainingError
from ferserve_training.callbacks import AveragedWeights, History, checkpoint
from ferserve_training.holdout import has_seen, split_training
from ferserve_training.model import TrainingModel
from ferserve_training.networks import backbone, build_network
from ferserve_training.optimizer import build_optimizer
from ferserve_training.precision import resolve_precision
from ferserve_training.recipes import TAUGHT_VOTES, VOTES_WEIGHT, Distillation, Recipe
from ferserve_training.released import load_start
from ferserve_training.run_folder import RunFolder
from ferserve_training.schedule import Schedule
from ferserve_training.teachers import Teacher, find_teacher, mean_answers

STATISTICS_FACES = 4096
"""Training faces from which batch statistics are estimated."""


def train(
    recipe: Recipe,
    dataset: Fer2013,
    folder: RunFolder,
    *,
    backbone_weights: str = "imagenet",
    start_from: Path | None = None,
    teachers: Sequence[Path] = (),
    votes: Votes | None = None,
    holdout_share: float = 0.1,
    limit: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    seed: int = 0,
) -> None:
    """Trains a network and leaves ``folder`` with weights, history and description.

    The state is saved after every epoch; an interrupted run goes on with ``resume``. The command
    ``ferserve train`` describes the arguments. Teachers of the labels are learned from beside the
    labels, those that answer as people would beside the votes.

    Raises:
        TrainingError: There is a run already and ``resume`` is false, or none and it is true, or
            the one there was started with other settings; or a teacher, the pretrained weights or
            ``start_from`` cannot be had.
    """
    if recipe.votes and votes is None:
        raise TrainingError("this recipe learns from FER+ votes too: it needs --votes PATH")
    new_backbone = recipe.fine_tuning and not start_from
    if backbone_weights not in ("imagenet", "none") and not new_backbone:
        raise TrainingError("--backbone-weights: this run begins with no pretrained backbone")
    if backbone_weights == "none" or not new_backbone:
        backbone_weights = ""
    taught_by = [find_teacher(path) for path in teachers]
    for teacher in taught_by:
        if votes is None and "FER2013 labels" not in teacher.answers:
            raise TrainingError(f"{teacher.path} answers as people would: it needs --votes PATH")
    if any("FER2013 labels" in teacher.answers for teacher in taught_by):
        recipe = replace(recipe, distillation=Distillation())
    if start_from and recipe.fine_tuning:
        recipe = replace(recipe, fine_tuning=recipe.fine_tuning.continued())
    if votes and not recipe.votes:
        recipe = replace(recipe, votes=VOTES_WEIGHT)
    recipe = replace(recipe, precision=resolve_precision(recipe.precision))
    keep_freed_blocks()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(recipe.precision)
    fitted, holdout = split_training(dataset.train, holdout_share, limit, seed)
    models = [*([start_from] if start_from else []), *teachers]
    seen_by = [
        path.resolve().parent.name if path.suffix == ".h5" else path.name
        for path in models
        if has_seen(path, holdout)
    ]
    if seen_by:
        names = ", ".join(seen_by)
        warnings.warn(f"{names} learned from the hold-out: its figures will flatter", stacklevel=2)
    description = {
        "recipe": asdict(recipe),
        "dataset_sha256": dataset.sha256(),
        "backbone_weights": backbone.describe_weights(backbone_weights),
        "started_from": start_from
        and {"model": start_from.name, "sha256": backbone.sha256(start_from)},
        "teachers": [teacher.description for teacher in taught_by],
        "votes_sha256": votes and votes.sha256(),
        "images": len(fitted),
        "holdout_images": len(holdout),
        "holdout_share": holdout_share,
        "holdout_sha256": holdout.sha256(),
        "holdout_seen_by": seen_by,
        "limit": limit,
        "seed": seed,
    }
    some = np.random.default_rng(seed).permutation(fitted.faces)[:STATISTICS_FACES]
    heads = 2 if recipe.votes else 1
    network = build_network(recipe.network, recipe.side, heads, sharpen=recipe.sharpen)
    if recipe.fine_tuning:
        backbone.prepare_backbone(network, backbone_weights, recipe.fine_tuning)
    past = folder.read_history()
    if start_from and not past:
        load_start(network, start_from, some)
    folder.open(description, resume)
    fitted = _whole_batches(fitted, recipe.batch_size)
    answers = recipe.distillation and mean_answers(
        taught_by, "FER2013 labels", fitted.faces, recipe.distillation.temperature
    )
    people = votes and vote_targets(fitted, votes, taught_by)
    # With the seeds of the start, a resumed run would see the faces of the first epochs again,
    # changed in the same ways, and learn these by heart.
    draws = seed + 1000 * len(past)
    keras.utils.set_random_seed(draws)
    model = TrainingModel(network, recipe, draws)
    compile_model(model, recipe)
    steps = math.ceil(len(fitted) / recipe.batch_size)
    schedule = Schedule(
        recipe,
        steps * recipe.epochs,
        max_seconds=max_minutes * 60 if max_minutes else math.inf,
        spent_seconds=sum(float(row["seconds"]) for row in past),
    )
    averaged = AveragedWeights(
        network,
        folder.weights,
        some,
        recipe.batch_size,
        # Outside training nobody looks at the teachers' answers.
        batches(
            *_inputs(
                holdout,
                answers if answers is None else np.resize(answers, (len(holdout), len(EMOTIONS))),
                votes and vote_targets(holdout, votes),
            ),
            recipe.batch_size,
        )
        if len(holdout)
        else None,
        best=min((float(row.get("val_loss", math.inf)) for row in past), default=math.inf),
    )
    model.fit(
        **batches(*_inputs(fitted, answers, people), recipe.batch_size, draws),
        epochs=recipe.epochs,
        # An epoch in the checkpoint has been scored; one in the history is in the checkpoint.
        callbacks=[schedule, averaged, checkpoint(folder.checkpoint), History(folder.history)],
        verbose=1 if sys.stdout.isatty() else 2,  # a bar, or a line an epoch
    )


def batches(
    inputs: tuple[np.ndarray, ...], labels: np.ndarray, size: int, seed: int | None = None
) -> dict[str, Any]:
    """What ``evaluate`` takes, or, with the seed of a new order each epoch, ``fit``.

    Of arrays, Keras makes a pipeline of TensorFlow's that tunes itself. Its tuning thread may miss
    that an epoch is over, and what comes next then waits for it, up to a minute: the thread is
    told before the flag is set that it looks at. So the pipeline is made here, without tuning.
    """
    if keras.config.backend() != "tensorflow":
        return {"x": inputs, "y": labels, "batch_size": size}
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    rows = tf.data.Dataset.from_tensor_slices((inputs, labels))
    if seed is not None:
        rows = rows.shuffle(len(labels), seed)
    return {"x": rows.batch(size).prefetch(2).with_options(options)}


def vote_targets(split: Split, votes: Votes, teachers: Sequence[Teacher] = ()) -> np.ndarray:
    """What the votes' head learns: people's shares, blended with what teachers expect.

    Returns:
        For each face the seven emotions' shares, float32 ``[N, 7]``.
    """
    people = shares(votes.of(split))
    taught = mean_answers(teachers, "FER+ votes", split.faces)
    if taught is not None:
        people = (1 - TAUGHT_VOTES) * people + TAUGHT_VOTES * taught
    return people


def compile_model(model: TrainingModel, recipe: Recipe) -> None:
    """Gives a model its recipe's optimizer and loss."""
    model.compile(
        build_optimizer(recipe, model.network),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        # JAX has no other way to run fast. On TensorFlow XLA is slower than oneDNN's kernels on a
        # CPU, and torch.compile does not take these models.
        jit_compile=keras.config.backend() == "jax",
        steps_per_execution=recipe.steps_per_execution,
    )


def _whole_batches(split: Split, batch_size: int) -> Split:
    """Repeats some faces on JAX, which would compile the step once more for a smaller batch."""
    if keras.config.backend() != "jax":
        return split
    size = math.ceil(len(split) / batch_size) * batch_size
    return split.take(np.resize(np.arange(len(split)), size))


def _inputs(
    split: Split, answers: np.ndarray | None, people: np.ndarray | None
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """What a :class:`TrainingModel` takes."""
    labels = np.eye(len(EMOTIONS), dtype=np.float32)[split.labels]
    rows = [rows for rows in (labels, answers, people) if rows is not None]
    return (split.faces, *rows), labels
