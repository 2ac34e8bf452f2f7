"""One page that shows how a model does on one split."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def write_report(name: str, report: dict[str, Any], folder: Path, history: Path | None) -> None:
    """Writes ``<name>.json`` and a page on its first split, ``<name>.png``.

    Args:
        name: The model.
        report: As ``ferserve_training.evaluate.evaluate`` returns it.
        folder: Where to. The history is kept there, too, for a page that is drawn anew when the
            run is no longer there.
        history: The run's ``history.csv``.
    """
    _write_json(report, folder / f"{name}.json")
    kept = folder / f"{name}_history.csv"
    if history is not None and history.resolve() != kept.resolve():
        shutil.copyfile(history, kept)
    split, scores = next(iter(report.items()))
    draw_page(f"{name}, {split}", scores, folder / f"{name}.png", kept if kept.exists() else None)


def write_report_without_mirror(model: Path, report: dict[str, Any], folder: Path) -> None:
    """Writes ``<name>_no_mirror.json``, with the hash of the file from which it was measured.

    Nothing else in it would show whether it belongs to the model that is served.

    Args:
        model: ONNX file, or the folder of a run.
        report: As ``ferserve_training.evaluate.evaluate`` returns it.
        folder: Where to.
    """
    measured = {"model_sha256": _sha256(model)} if model.is_file() else {}
    _write_json(measured | report, folder / f"{model.stem}_no_mirror.json")


def _write_json(document: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw_page(title: str, scores: dict[str, Any], target: Path, history: Path | None) -> None:
    """Draws confusion matrix, F1 by emotion, reliability diagram and learning curve.

    Args:
        title: Headline.
        scores: Of one split, as ``ferserve_training.evaluate.evaluate`` returns them.
        target: The PNG to write.
        history: The run's ``history.csv``; without it the fourth panel says so.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    low, high = scores["interval"]
    figure.suptitle(
        f"{title}: {scores['accuracy']:.2%} of {scores['n']:,} images "
        f"(95 %: {low:.1%} to {high:.1%}), macro-F1 {scores['macro_f1']:.3f}"
    )
    (confusion, bars), (reliability, curve) = figure.subplots(2, 2)
    _confusion(confusion, np.array(scores["confusion"]))
    _f1(bars, scores["per_class"])
    _reliability(reliability, scores)
    _learning_curve(curve, history)
    figure.savefig(target, dpi=110)


def _confusion(axes: Axes, counts: np.ndarray) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right")
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title("Confusion, share of each label")


def _f1(axes: Axes, per_class: dict[str, dict[str, float]]) -> None:
    bars = axes.barh(EMOTIONS, [per_class[name]["f1"] for name in EMOTIONS])
    axes.bar_label(bars, [f"{per_class[name]['f1']:.2f}" for name in EMOTIONS], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_title("F1 by emotion")


def _reliability(axes: Axes, scores: dict[str, Any]) -> None:
    bins = [b for b in scores["reliability"] if b["n"]]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], marker="o")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability of the answer", ylabel="accuracy")
    axes.set_title(f"Reliability, ECE {scores['ece']:.3f}")


def _learning_curve(axes: Axes, history: Path | None) -> None:
    axes.set_title("Learning curve")
    if history is None:
        axes.text(0.5, 0.5, "the run's history was not given", ha="center", va="center")
        axes.set_axis_off()
        return
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    for key, label in (("accuracy", "training, augmented"), ("val_accuracy", "hold-out, averaged")):
        if key in rows[0]:
            axes.plot(epochs, [float(row[key]) for row in rows], label=label)
    axes.set(xlabel="epoch", ylabel="accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
