"""What happens around the training steps: checkpoints, averaged weights, history."""

import csv
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ferserve_training.networks.layers import Upsampling


def checkpoint(folder: Path) -> keras.callbacks.Callback:
    """Keras' backup after every epoch; a resumed run goes on from it."""
    callback = keras.callbacks.BackupAndRestore(
        folder, double_checkpoint=True, delete_checkpoint=False
    )
    callback.async_safe = True  # it has nothing to do after a batch
    return callback


class AveragedWeights(keras.callbacks.Callback):
    """Scores the averaged weights on the hold-out after each epoch and saves the best of them.

    The best have the least loss, which takes labels and votes into account, and how sure the
    answers are: a run that goes on from a trained model may well begin with its highest accuracy.
    Without a hold-out the newest are saved. The network itself goes on with its own weights.

    Args:
        network: The part of the trained model whose weights are saved.
        path: Where to, ``*.weights.h5``.
        faces: Training faces ``[N, 48, 48]``, from which the averaged network's batch
            statistics are estimated.
        batch_size: Of that estimate.
        holdout: Keyword arguments of ``evaluate``, or None.
        best: Least hold-out loss that earlier epochs of a resumed run reached.
    """

    def __init__(
        self,
        network: keras.Model,
        path: Path,
        faces: np.ndarray,
        batch_size: int,
        holdout: dict[str, Any] | None,
        best: float = math.inf,
    ) -> None:
        super().__init__()
        self.network, self.path, self.holdout, self.best = network, path, holdout, best
        self.faces, self.batch_size = faces, batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds ``val_loss`` and ``val_accuracy`` to the epoch's logs."""
        with self._averaged():
            if self.holdout is None:
                self._save()
                return
            scores = self.model.evaluate(**self.holdout, verbose=0, return_dict=True)
            logs |= {f"val_{name}": value for name, value in scores.items()}
            if scores["loss"] < self.best:
                self.best = scores["loss"]
                self._save()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Gives the network averaged weights and statistics until the block ends."""
        optimizer = self.model.optimizer
        trained = optimizer._trainable_variables
        variables = [*trained, *self.network.non_trainable_variables]
        own = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
        for variable, average in zip(
            trained, optimizer._model_variables_moving_average, strict=True
        ):
            # A copy: JAX takes the scored network's arrays away, and the average has to stay.
            variable.assign(keras.ops.convert_to_numpy(average).copy())
        estimate_statistics(self.network, self.faces, self.batch_size)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    def _save(self) -> None:
        partial = self.path.with_name("partial.weights.h5")
        self.network.save_weights(partial)
        partial.replace(self.path)


def estimate_statistics(network: keras.Model, faces: np.ndarray, batch_size: int) -> None:
    """Replaces a network's unfrozen moving means and variances by means over batches of faces.

    Averaged weights need this (Izmailov et al. 2018, Averaging Weights Leads to Wider Optima,
    section 3.2): the moving statistics belong to the activations of the weights that were
    trained, not of their average. After 7 epochs the averaged Custom CNN was right on 34 % of 800
    training faces with the trained weights' statistics, on 62 % with its own.
    """
    layers = list(network._flatten_layers())
    kind = keras.layers.BatchNormalization
    normalisations = [x for x in layers if isinstance(x, kind) and x.trainable]
    if not normalisations:
        return
    upsampling = [x for x in layers if isinstance(x, Upsampling)]
    sides = [layer.training_side for layer in upsampling]
    momenta = [layer.momentum for layer in normalisations]
    for layer in upsampling:
        layer.training_side = layer.side  # that is served
    for number, start in enumerate(range(0, max(len(faces) - batch_size, 0) + 1, batch_size)):
        for layer in normalisations:
            layer.momentum = number / (number + 1)  # makes the moving average a plain mean
        network(faces[start : start + batch_size], training=True)
    for layer, side in zip(upsampling, sides, strict=True):
        layer.training_side = side
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum


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
