"""One page that shows how a model does on one split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import ConfusionMatrixDisplay


def write_report(name: str, report: dict[str, Any], folder: Path, history: Path | None) -> None:
    """Writes ``<name>.json`` and a page on its first split, ``<name>.png``.

    ``report`` is what :func:`ferserve_training.evaluate.evaluate` returns. Without the run's
    ``history.csv`` the page has no learning curve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    split, scores = next(iter(report.items()))
    figure = Figure(figsize=(11, 9), layout="constrained")
    low, high = scores["interval"]
    figure.suptitle(
        f"{name}, {split}: {scores['accuracy']:.2%} of {scores['n']:,} images "
        f"(95 %: {low:.1%} to {high:.1%}), macro-F1 {scores['macro_f1']:.3f}"
    )
    (confusion, bars), (reliability, curve) = figure.subplots(2, 2)
    counts = np.array(scores["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ConfusionMatrixDisplay(shares, display_labels=EMOTIONS).plot(
        ax=confusion, cmap="Blues", values_format=".0%", colorbar=False, xticks_rotation=40
    )
    confusion.set_title("Confusion, share of each label")
    f1 = bars.barh(EMOTIONS, [scores["per_class"][name]["f1"] for name in EMOTIONS])
    bars.bar_label(f1, fmt="{:.2f}", padding=3)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), title="F1 by emotion")
    _reliability(reliability, scores)
    if history is not None and history.exists():
        _learning_curve(curve, history)
    else:
        curve.set_axis_off()
    page = folder / f"{name}.png"
    figure.savefig(page, dpi=110)
    with Image.open(page) as picture:  # 64 colours look the same in a quarter of the bytes
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(page, optimize=True)


def _reliability(axes: Axes, scores: dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for label, measured in (("labels", scores), ("people's votes", scores.get("votes"))):
        if measured and measured["ece"] is not None:
            bins = [b for b in measured["reliability"] if b["n"]]
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axes.plot(x, y, marker="o", label=f"{label}, ECE {measured['ece']:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability of the answer", ylabel="accuracy")
    axes.set_title("Reliability")
    axes.legend()


def _learning_curve(axes: Axes, history: Path) -> None:
    rows = np.genfromtxt(history, delimiter=",", names=True, ndmin=1)
    for key, label in (("accuracy", "training, augmented"), ("val_accuracy", "hold-out, averaged")):
        if key in (rows.dtype.names or ()):
            axes.plot(rows["epoch"], rows[key], label=label)
    axes.set(xlabel="epoch", ylabel="accuracy", title="Learning curve")
    axes.grid(alpha=0.3)
    axes.legend()
