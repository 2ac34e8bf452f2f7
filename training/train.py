"""One training run: data in, best weights and history out."""

import csv
import dataclasses
import importlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from fer2013.labels import EMOTIONS
from fer2013.reader import Fer2013, Split
from training.augment import build_augmentation
from training.callbacks import (
    STATISTICS_FACES,
    AveragedWeights,
    CosineSchedule,
    History,
    ProgressBar,
)
from training.holdout import split_holdout
from training.plots import plot_history
from training.recipes import Recipe


class RunError(RuntimeError):
    """The run's folder does not allow what was asked for; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, all below ``root``.

    Attributes:
        root: The run's own folder, such as ``runs/custom_cnn``.
    """

    root: Path

    @property
    def weights(self) -> Path:
        """Best averaged weights of the network, or the last where there was no hold-out."""
        return self.root / "best.weights.h5"

    @property
    def description(self) -> Path:
        """Recipe, data and backend as JSON."""
        return self.root / "run.json"

    @property
    def history(self) -> Path:
        """A row an epoch."""
        return self.root / "history.csv"

    @property
    def checkpoint(self) -> Path:
        """Keras' backup: weights, optimizer and epoch."""
        return self.root / "checkpoint"


def build_network(name: str) -> keras.Model:
    """Builds the network of ``training.networks.<name>`` with random weights."""
    return importlib.import_module(f"training.networks.{name}").build()


def train(
    recipe: Recipe,
    dataset: Fer2013,
    folder: RunFolder,
    *,
    holdout_share: float = 0.1,
    limit: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    seed: int = 0,
    console: Console | None = None,
) -> None:
    """Trains a network and leaves ``folder`` with weights, history (CSV, PNG) and description.

    The state is saved after every epoch; an interrupted run goes on with ``resume``.

    Args:
        recipe: What to train and how.
        dataset: FER2013; only its Training images are used.
        folder: Where the run's files go.
        holdout_share: Share of Training kept for choosing the best epoch; 0 fits on all of it
            and keeps the last epoch.
        limit: Use only this many training faces, for a rehearsal.
        max_minutes: Time limit; the learning rate is annealed by the clock.
        resume: Go on with the run in ``folder``.
        seed: Of initialisation, order, augmentation and hold-out.
        console: Where progress goes; standard output by default.

    Raises:
        RunError: There is a run already and ``resume`` is false, or none and it is true, or the
            one there was started with other settings.
    """
    console = console or Console()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(recipe.precision)
    fitted, holdout = _split(dataset.train, holdout_share, limit, seed)
    description = {
        "recipe": dataclasses.asdict(recipe),
        "dataset_sha256": dataset.sha256(),
        "images": len(fitted),
        "holdout_images": len(holdout) if holdout else 0,
        "seed": seed,
    }
    _open_folder(folder, description, resume)
    network = build_network(recipe.network)
    model = keras.Sequential([build_augmentation(recipe.augmentation, seed), network])
    _compile(model, recipe)
    steps = math.ceil(len(fitted) / recipe.batch_size)
    past = _read_history(folder.history)
    callbacks = [
        # First: it restores the state that the others read, and saves before others change it.
        keras.callbacks.BackupAndRestore(
            folder.checkpoint, double_checkpoint=True, delete_checkpoint=False
        ),
        CosineSchedule(
            recipe.learning_rate,
            recipe.warmup,
            steps * recipe.epochs,
            max_seconds=max_minutes * 60 if max_minutes else math.inf,
            spent_seconds=sum(float(row["seconds"]) for row in past),
        ),
        AveragedWeights(
            network,
            folder.weights,
            fitted.faces[np.random.default_rng(seed).permutation(len(fitted))[:STATISTICS_FACES]],
            recipe.batch_size,
            (holdout.faces, _one_hot(holdout.labels)) if holdout else None,
            best=max((float(row.get("val_accuracy", 0)) for row in past), default=0.0),
        ),
        History(folder.history),
        ProgressBar(console, steps, recipe.epochs),
    ]
    model.fit(
        fitted.faces,
        _one_hot(fitted.labels),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    plot_history(folder.history, folder.root / "history.png")


def _split(train: Split, share: float, limit: int | None, seed: int) -> tuple[Split, Split | None]:
    if limit is not None:
        train = train.take(np.random.default_rng(seed).permutation(len(train))[:limit])
    return split_holdout(train, share, seed) if share else (train, None)


def _compile(model: keras.Model, recipe: Recipe) -> None:
    optimizer = keras.optimizers.AdamW(
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=True,
        ema_momentum=recipe.ema_momentum,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        # JAX has no other way to run fast. On TensorFlow XLA is slower than oneDNN's kernels on a
        # CPU, and torch.compile does not take these models.
        jit_compile=keras.config.backend() == "jax",
        steps_per_execution=recipe.steps_per_execution,
    )


def _open_folder(folder: RunFolder, description: dict[str, object], resume: bool) -> None:
    started = folder.description.exists()
    if started and not resume:
        raise RunError(f"{folder.root} holds a run; go on with --resume, or give another --out")
    if resume and not started:
        raise RunError(f"{folder.root} holds no run to resume")
    if resume:
        earlier = json.loads(folder.description.read_text(encoding="utf-8"))
        changed = [
            key
            for key, value in json.loads(json.dumps(description)).items()
            if earlier.get(key) != value
        ]
        if changed:
            raise RunError(f"{folder.root} was started with another {', '.join(changed)}")
        return
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.description.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _read_history(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(len(EMOTIONS), dtype=np.float32)[labels]
