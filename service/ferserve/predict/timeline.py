"""A video's emotions over time, in one picture; needs matplotlib, of the extra ``video``."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib.ticker
from matplotlib.figure import Figure

from ferserve.predict.drawing import COLOURS
from ferserve.predict.items import Item
from ferserve.tracking import MAX_ABSENCE

MOST_FACES = 6
"""The faces seen longest; each has a diagram of its own."""

DPI = 110


class Timeline:
    """Collects the faces of a video."""

    def __init__(self) -> None:
        self._times: dict[int, list[float]] = {}
        self._emotions: dict[int, dict[str, list[float]]] = {}

    def add(self, item: Item) -> None:
        """Takes the faces of a frame."""
        for face in item.faces:
            times = self._times.setdefault(face.track, [])
            lines = self._emotions.setdefault(face.track, {name: [] for name in face.emotions})
            now = item.seconds or 0.0
            if times and now - times[-1] > MAX_ABSENCE:  # no line through where nobody was seen
                times.append(now)
                for line in lines.values():
                    line.append(float("nan"))
            times.append(now)
            for name, value in face.emotions_smoothed.items():
                lines[name].append(value)

    def save(self, path: Path, title: str) -> None:
        """Draws the smoothed emotions of the faces seen longest into a PNG."""
        self.draw(title).savefig(path, dpi=DPI, format="png")

    def draw(self, title: str) -> Figure:
        """Draws the smoothed emotions of the faces seen longest."""
        longest = sorted(self._times, key=lambda track: len(self._times[track]), reverse=True)
        shown = sorted(longest[:MOST_FACES])
        figure = Figure(figsize=(10, 1.2 + 2.2 * max(1, len(shown))), layout="constrained")
        rows = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
        for axes, track in zip(rows, shown, strict=False):
            for name, values in self._emotions[track].items():
                colour = COLOURS.get(name)
                axes.plot(self._times[track], values, label=name, color=colour, lw=1.5)
            axes.set(title=f"face {track}", ylim=(0, 1))
            axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
            axes.grid(alpha=0.3)
        if shown:
            rows[0].legend(ncols=7, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.12))
        else:
            rows[0].text(0.5, 0.5, "no face was seen", ha="center", transform=rows[0].transAxes)
        rows[-1].set_xlabel("seconds")
        figure.suptitle(_title(title, hidden=len(longest) - len(shown)))
        return figure


def _title(name: str, hidden: int) -> str:
    rest: Iterable[str] = [f"{hidden} more faces are not shown"] if hidden else []
    return "; ".join([f"Apparent expressions in {name}", *rest]).replace("$", r"\$")
