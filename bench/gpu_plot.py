"""Draws faces a second by batch size, a field for each model and precision."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def figure(document: dict[str, Any]) -> Figure:
    """Draws ``gpu.json``."""
    speed = [one for one in document["speed"] if one["cells"]]
    models = list(dict.fromkeys(one["model"] for one in speed))
    precisions = list(dict.fromkeys(one["precision"] for one in speed))
    size = (4 * len(models), 3 * len(precisions) + 0.5)
    drawing = Figure(figsize=size, layout="constrained")
    fields = drawing.subplots(len(precisions), len(models), squeeze=False)
    for row, precision in zip(fields, precisions, strict=True):
        for field, model in zip(row, models, strict=True):
            here = [one for one in speed if (one["model"], one["precision"]) == (model, precision)]
            limit = document["models"][model]["limit_faces_per_second"].get(precision)
            _draw(field, here, limit)
            field.set_title(f"{model}, {precision}")
    fields[0][0].legend(fontsize="small")
    drawing.suptitle(f"Faces a second by batch size\n{document['label']}", fontsize="medium")
    return drawing


def _draw(field: Axes, combinations: list[dict[str, Any]], limit: float | None) -> None:
    for one in combinations:
        best: dict[int, float] = {}
        for cell in one["cells"]:
            if isinstance(cell["batch"], int):  # sizes that are mixed have no place on the axis
                rate = max(cell["faces_per_second"], best.get(cell["batch"], 0))
                best[cell["batch"]] = rate
        field.plot(list(best), list(best.values()), marker="o", markersize=3, label=one["strategy"])
    if limit:
        field.axhline(limit, color="0.5", lw=0.8, ls="--", label="arithmetic limit")
    field.set_xscale("log", base=2)
    field.xaxis.set_major_formatter("{x:g}")
    field.set_yscale("log")
    field.set_xlabel("batch")
