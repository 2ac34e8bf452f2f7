"""What happens around the training steps: checkpoints, averaged weights, progress."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ferserve_training.batch_statistics import StatisticsEstimator, kept_statistics

STATISTICS_FACES = 4096
"""Training faces from which the averaged network's batch statistics are estimated."""


class Checkpoint(keras.callbacks.BackupAndRestore):
    """Keras' backup after every epoch, but at most once in ``interval`` seconds.

    On a fast device writing weights and optimizer takes as long as an epoch. The last epoch is
    always saved.

    Args:
        folder: Where to.
        interval: Seconds.
        clock: Monotonic time in seconds.
    """

    async_safe = True  # it has nothing to do after a batch

    def __init__(
        self, folder: Path, interval: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(folder, double_checkpoint=True, delete_checkpoint=False)
        self.interval, self.clock, self.saved = interval, clock, -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves if it is time to, or the run's end."""
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if is_last or self.clock() - self.saved >= self.interval:
            super().on_epoch_end(epoch, logs)
            self.saved = self.clock()


class AveragedWeights(keras.callbacks.Callback):
    """Scores the averaged weights on the hold-out after each epoch and saves the best of them.

    Without a hold-out the newest are saved. The network itself goes on with its own weights.

    Args:
        network: The part of the trained model whose weights are saved.
        path: Where to, ``*.weights.h5``.
        faces: Training faces ``[N, 48, 48]``, from which the averaged network's batch
            statistics are estimated.
        batch_size: Of that estimate, and of scoring.
        holdout: What ``evaluate`` takes, inputs and labels, or None.
        best: Hold-out accuracy that earlier epochs of a resumed run reached.
    """

    def __init__(
        self,
        network: keras.Model,
        path: Path,
        faces: np.ndarray,
        batch_size: int,
        holdout: tuple[Any, np.ndarray] | None,
        best: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.path, self.holdout, self.best = network, path, holdout, best
        self.faces, self.batch_size = faces, batch_size
        self.estimator = StatisticsEstimator(network)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds ``val_loss`` and ``val_accuracy`` to the epoch's logs."""
        with self._averaged(), kept_statistics(self.network):
            self.estimator.estimate(self.faces[:STATISTICS_FACES], self.batch_size)
            if self.holdout is None:
                self._save()
                return
            scores = self.model.evaluate(
                *self.holdout, batch_size=self.batch_size, verbose=0, return_dict=True
            )
            if logs is not None:
                logs |= {f"val_{name}": value for name, value in scores.items()}
            if scores["accuracy"] > self.best:
                self.best = scores["accuracy"]
                self._save()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _save(self) -> None:
        partial = self.path.with_name("partial.weights.h5")
        self.network.save_weights(partial)
        partial.replace(self.path)

    def _swap(self) -> None:
        optimizer = self.model.optimizer
        for variable, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        ):
            own = keras.ops.convert_to_numpy(variable)
            variable.assign(keras.ops.convert_to_numpy(average))
            average.assign(own)


class History(keras.callbacks.Callback):
    """Appends each epoch's figures to a CSV file: epoch, seconds, learning_rate and the logs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the epoch's clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the row."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {
            "epoch": epoch + 1,
            "seconds": round(time.monotonic() - self.started, 1),
            "learning_rate": f"{rate:.3g}",
        } | {name: f"{value:.5f}" for name, value in (logs or {}).items()}
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps with the time that is left; a line an epoch where no one watches."""

    async_safe = True  # else Keras waits for every step's figures before it starts the next

    def __init__(self, console: Console, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self.console, self.steps_per_epoch, self.epochs = console, steps_per_epoch, epochs
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows the bar, from where a resumed run stands."""
        self.task = self.bar.add_task(
            "training", total=self.steps_per_epoch * self.epochs, epoch=1, figures=""
        )
        self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Moves to the epoch's first step."""
        self.epoch = epoch
        self.bar.update(self.task, epoch=epoch + 1, completed=epoch * self.steps_per_epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves on by what one execution did."""
        self.bar.update(
            self.task,
            completed=self.epoch * self.steps_per_epoch + batch + 1,
            figures=_figures(logs),
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the epoch's figures."""
        self.console.print(f"epoch {epoch + 1}/{self.epochs} {_figures(logs)}")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Takes the bar away."""
        self.bar.stop()


def _figures(logs: dict[str, float] | None) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
