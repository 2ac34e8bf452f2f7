"""One training run: data in, best weights and history out."""

import dataclasses
import importlib
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import Fer2013, Split
from ferserve.fer2013.votes import Votes, shares
from rich.console import Console

from ferserve_training.callbacks import (
    STATISTICS_FACES,
    AveragedWeights,
    Checkpoint,
    History,
    ProgressBar,
)
from ferserve_training.devices import count_devices, data_parallel
from ferserve_training.errors import TrainingError
from ferserve_training.holdout import split_training
from ferserve_training.model import TrainingModel, softened_mean
from ferserve_training.networks import backbone
from ferserve_training.optimizer import build_optimizer
from ferserve_training.plots import plot_history
from ferserve_training.precision import resolve_precision
from ferserve_training.recipes import FineTuning, Recipe
from ferserve_training.released import check_exists, load_start
from ferserve_training.run_folder import RunFolder, build_network, load_network
from ferserve_training.schedule import CosineSchedule, Stages

__all__ = ["RunFolder", "TrainingError", "build_network", "load_network", "train"]


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
    devices: str | None = None,
    console: Console | None = None,
) -> None:
    """Trains a network and leaves ``folder`` with weights, history (CSV, PNG) and description.

    The state is saved as the run goes; an interrupted run goes on with ``resume``.

    Args:
        recipe: What to train and how.
        dataset: FER2013; only its Training images are used.
        folder: Where the run's files go.
        backbone_weights: ``imagenet``, the path of a file, or ``none``; without effect on a
            network without a pretrained backbone.
        start_from: ONNX file of a released model, or weights of a finished run, to go on from
            instead of ``backbone_weights``.
        teachers: Folders of runs to learn from, for a recipe with distillation.
        votes: For a recipe that learns from them too.
        holdout_share: Share of Training kept for choosing the best epoch; 0 fits on all of it
            and keeps the last epoch.
        limit: Use only this many training faces, for a rehearsal.
        max_minutes: Time limit; the learning rate is annealed by the clock.
        resume: Go on with the run in ``folder``.
        seed: Of initialisation, order, augmentation and hold-out.
        devices: How many devices share each batch, or ``all``; one if None.
        console: Where progress goes; standard output by default.

    Raises:
        TrainingError: There is a run already and ``resume`` is false, or none and it is true, or
            the one there was started with other settings; or a teacher, the pretrained weights,
            ``start_from`` or as many devices cannot be had.
    """
    console = console or Console()
    if bool(teachers) != bool(recipe.distillation):
        raise TrainingError("teachers (--teacher RUN) and a distilling recipe need each other")
    if recipe.votes and votes is None:
        raise TrainingError("this recipe learns from FER+ votes too: --votes PATH")
    count = count_devices(devices, recipe.batch_size)
    pretrained = None if start_from else _pretrained_weights(recipe, backbone_weights)
    described_start = start_from and _describe_released(start_from)
    described_teachers = [_describe_teacher(RunFolder(path)) for path in teachers]
    keras.utils.set_random_seed(seed)
    recipe = dataclasses.replace(recipe, precision=resolve_precision(recipe.precision))
    keras.config.set_dtype_policy(recipe.precision)
    fitted, holdout = split_training(dataset.train, holdout_share, limit, seed)
    description = {
        "recipe": dataclasses.asdict(recipe),
        "dataset_sha256": dataset.sha256(),
        "backbone_weights_sha256": pretrained and backbone.sha256(pretrained),
        "started_from": described_start,
        "teachers": described_teachers,
        "votes_sha256": votes.sha256() if votes and recipe.votes else None,
        "images": len(fitted),
        "holdout_images": len(holdout),
        "holdout_share": holdout_share,
        "limit": limit,
        "seed": seed,
    }
    with data_parallel(count):
        network = build_network(recipe.network, recipe.side, heads=2 if recipe.votes else 1)
        if recipe.fine_tuning:
            _prepare_backbone(network, recipe.fine_tuning, pretrained, console)
        if start_from and not resume:
            # From all over: files are sorted by emotion.
            known = np.random.default_rng(seed).permutation(fitted.faces)[:STATISTICS_FACES]
            load_start(network, start_from, recipe, known)
        folder.open(description, resume)
        taught_by = [load_network(RunFolder(path)) for path in teachers]
        fitted = _whole_batches(fitted, recipe.batch_size, count)
        answers = None
        if recipe.distillation and not recipe.distillation.same_view:
            answers = _ask_before(taught_by, fitted.faces, recipe.distillation.temperature, folder)
            taught_by = []
        counted = votes if recipe.votes else None
        model = TrainingModel(network, recipe, taught_by, seed)
        _compile(model, recipe)
        past = folder.rewind_history()
        holdout = holdout.take(np.arange(len(holdout) // count * count))
        steps = math.ceil(len(fitted) / recipe.batch_size)
        schedule = CosineSchedule(
            recipe,
            steps * recipe.epochs,
            max_seconds=max_minutes * 60 if max_minutes else math.inf,
            spent_seconds=sum(float(row["seconds"]) for row in past),
        )
        callbacks = [
            # First: it restores the state that the others read, and saves before others change it.
            Checkpoint(folder.checkpoint),
            schedule,
            Stages(recipe, schedule),
            AveragedWeights(
                network,
                folder.weights,
                np.random.default_rng(seed).permutation(fitted.faces),
                recipe.batch_size,
                _inputs(holdout, None if answers is None else answers[: len(holdout)], counted)
                if len(holdout)
                else None,
                best=max((float(row.get("val_accuracy", 0)) for row in past), default=0.0),
            ),
            History(folder.history),
            ProgressBar(console, steps, recipe.epochs),
        ]
        model.fit(
            *_inputs(fitted, answers, counted),
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            callbacks=callbacks,
            verbose=0,
        )
    plot_history(folder.history, folder.root / "history.png")


def _whole_batches(split: Split, batch_size: int, devices: int) -> Split:
    """Repeats some faces where a smaller last batch would be in the way.

    JAX would compile the step once more for it, and several devices could not share it.
    """
    if keras.config.backend() != "jax" and devices == 1:
        return split
    size = math.ceil(len(split) / batch_size) * batch_size
    return split.take(np.resize(np.arange(len(split)), size))


def _pretrained_weights(recipe: Recipe, weights: str) -> Path | None:
    if not recipe.fine_tuning or weights == "none":
        return None
    module = importlib.import_module(f"ferserve_training.networks.{recipe.network}")
    return backbone.resolve_weights(weights, module.IMAGENET)


def _prepare_backbone(
    network: keras.Model, settings: FineTuning, weights: Path | None, console: Console
) -> None:
    layer = network.get_layer("backbone")
    if weights:
        random = backbone.load_backbone(layer, weights)
        console.print(f"{weights.name}: loaded; at random: {', '.join(random) or 'nothing'}")
    backbone.freeze_below(layer, settings.trainable_from)
    if settings.frozen_normalisation:
        backbone.freeze_normalisations(layer)


def _describe_released(path: Path) -> dict[str, object]:
    check_exists(path)
    return {"model": path.name, "sha256": backbone.sha256(path)}


def _describe_teacher(folder: RunFolder) -> dict[str, object]:
    if not folder.weights.exists():
        raise TrainingError(f"--teacher {folder.root}: no {folder.weights.name}")
    return {
        "network": folder.read_description()["recipe"]["network"],
        "weights_sha256": backbone.sha256(folder.weights),
    }


def _compile(model: TrainingModel, recipe: Recipe) -> None:
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


def _ask_before(
    teachers: Sequence[keras.Model], faces: np.ndarray, temperature: float, folder: RunFolder
) -> np.ndarray:
    """Teachers' softened mean for each face, float32 ``[N, 7]``; kept for a resumed run."""
    if not folder.answers.exists():
        logits = [teacher.predict(faces, batch_size=64, verbose=0) for teacher in teachers]
        answers = keras.ops.convert_to_numpy(softened_mean(logits, temperature))
        np.save(folder.answers, answers.astype(np.float32))
    return np.load(folder.answers)


def _inputs(
    split: Split, answers: np.ndarray | None, votes: Votes | None
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """What a :class:`TrainingModel` takes; outside training it does not look at answers."""
    labels = np.eye(len(EMOTIONS), dtype=np.float32)[split.labels]
    rows = [labels]
    if answers is not None:
        rows.append(answers)
    if votes is not None:
        rows.append(shares(votes.of(split)))
    return (split.faces, *rows), labels
