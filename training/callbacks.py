"""What happens around the training steps: schedule, averaged weights, progress."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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

from training.batch_statistics import kept_statistics, reestimate_statistics

STATISTICS_FACES = 4096
"""Training faces from which the averaged network's batch statistics are estimated."""


class CosineSchedule(keras.callbacks.Callback):
    """Sets the learning rate before every step: linear warm-up, then a half cosine to zero.

    With a time limit the schedule follows the clock where that is ahead of the steps, so that a
    run that is stopped by the clock has been annealed like one that made all its steps.

    Args:
        peak: Learning rate at the end of the warm-up.
        warmup: Share of the run that the warm-up takes.
        total_steps: Steps of a whole run.
        max_seconds: Time limit of the run, earlier parts of a resumed one included.
        spent_seconds: Time that those earlier parts took.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        peak: float,
        warmup: float,
        total_steps: int,
        max_seconds: float = math.inf,
        spent_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.peak, self.warmup, self.total_steps = peak, warmup, total_steps
        self.max_seconds, self.spent_seconds, self.clock = max_seconds, spent_seconds, clock
        self.started = clock()

    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        seconds = self.spent_seconds + self.clock() - self.started
        steps = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        return min(1.0, max(steps / self.total_steps, seconds / self.max_seconds))

    def learning_rate(self, progress: float) -> float:
        """The learning rate after that share of the run."""
        if progress < self.warmup:
            return self.peak * progress / self.warmup
        return (
            self.peak * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
        )

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the learning rate, and ends the run when the time is up."""
        progress = self.progress()
        self.model.optimizer.learning_rate = self.learning_rate(progress)
        if progress >= 1.0:
            self.model.stop_training = True


class AveragedWeights(keras.callbacks.Callback):
    """Scores the averaged weights on the hold-out after each epoch and saves the best of them.

    Without a hold-out the newest are saved. The network itself goes on with its own weights.

    Args:
        network: The part of the trained model whose weights are saved.
        path: Where to, ``*.weights.h5``.
        faces: Training faces ``[N, 48, 48]``, from which the averaged network's batch
            statistics are estimated.
        batch_size: Of that estimate.
        holdout: Faces ``[N, 48, 48]`` and one-hot labels ``[N, 7]``, or None.
        best: Hold-out accuracy that earlier epochs of a resumed run reached.
    """

    def __init__(
        self,
        network: keras.Model,
        path: Path,
        faces: np.ndarray,
        batch_size: int,
        holdout: tuple[np.ndarray, np.ndarray] | None,
        best: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.path, self.holdout, self.best = network, path, holdout, best
        self.faces, self.batch_size = faces, batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds ``val_loss`` and ``val_accuracy`` to the epoch's logs."""
        with self._averaged(), kept_statistics(self.network):
            reestimate_statistics(self.network, self._statistics_batches())
            if self.holdout is None:
                self._save()
                return
            scores = self.model.evaluate(*self.holdout, batch_size=256, verbose=0, return_dict=True)
            if logs is not None:
                logs |= {f"val_{name}": value for name, value in scores.items()}
            if scores["accuracy"] > self.best:
                self.best = scores["accuracy"]
                self._save()

    def _statistics_batches(self) -> Iterator[np.ndarray]:
        for start in range(0, min(STATISTICS_FACES, len(self.faces)), self.batch_size):
            batch = self.faces[start : start + self.batch_size]
            if start == 0 or len(batch) == self.batch_size:
                yield batch

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
