"""Plots of a training run."""

import csv
from pathlib import Path

from matplotlib.figure import Figure


def plot_history(history: Path, target: Path) -> None:
    """Draws loss and accuracy by epoch.

    Args:
        history: The run's ``history.csv``.
        target: The PNG to write.
    """
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training, augmented"), (f"val_{name}", "hold-out, averaged")):
            if key in rows[0]:
                axes.plot(epochs, [float(row[key]) for row in rows], marker=".", label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(target, dpi=120)
