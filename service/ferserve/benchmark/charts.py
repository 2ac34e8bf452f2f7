"""The report's figures as HTML and SVG; text in them is escaped here."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ferserve.benchmark.peers import KINDS, Peer
from ferserve.benchmark.results import Mistake
from ferserve.benchmark.schemas import ClassResult, ConfusionMatrix, ModelResult, ReliabilityBin

STRONG = 0.5
"""Cells of the matrix with more than this share are dark enough for light figures."""


def percent(share: float, digits: int = 1) -> str:
    """``0.6472`` → ``64.7 %``, with a space that does not break."""
    return f"{100 * share:.{digits}f}\u00a0%"


def ladder(results: Sequence[ModelResult], peers: Sequence[Peer]) -> str:
    """Everybody's accuracy on one scale, the best on top; ours with the 95 % interval."""
    ours = {result.model.name: result for result in results}
    values = [*(result.accuracy for result in results), *(peer.accuracy for peer in peers)]
    low = math.floor(10 * max(0.0, min(values) - 0.03)) / 10
    high = math.ceil(10 * min(1.0, max(values) + 0.03)) / 10

    def at(share: float) -> str:
        return f"{100 * (min(max(share, low), high) - low) / (high - low):.2f}%"

    rows = []
    for name, result in ours.items():
        interval = result.accuracy_interval
        left, right = at(interval.low), at(interval.high)
        rows.append(
            (
                result.accuracy,
                f'<div class="us"><span class="name">{escape(name)}</span><span class="track">'
                f'<i class="span" style="left:{left};width:calc({right} - {left})"></i>'
                f'<i class="ours" style="left:{at(result.accuracy)}"></i></span>'
                f'<span class="value">{100 * result.accuracy:.2f}</span></div>',
            )
        )
    for peer in peers:
        rows.append(
            (
                peer.accuracy,
                f'<div><span class="name">{escape(peer.name).replace("/", "/<wbr>")}</span>'
                '<span class="track">'
                f'<i class="dot {peer.kind}" style="left:{at(peer.accuracy)}"></i></span>'
                f'<span class="value">{100 * peer.accuracy:.2f}</span></div>',
            )
        )
    rows.sort(key=lambda row: row[0], reverse=True)
    tens = range(round(10 * low), round(10 * high) + 1)
    ticks = "".join(f'<span style="left:{at(ten / 10)}">{10 * ten}</span>' for ten in tens)
    kinds = dict.fromkeys(peer.kind for peer in peers)
    legend = "".join(f'<span><i class="{kind}"></i>{KINDS[kind]}</span>' for kind in kinds)
    return (
        f'<div class="ladder">{"".join(row for _, row in rows)}'
        f'<div class="axis"><span></span><span class="track">{ticks}</span>'
        f'<span class="value note">%</span></div></div><div class="legend">{legend}</div>'
    )


def confusion_table(matrix: ConfusionMatrix) -> str:
    """Rows are labels; the share of each row's images is the colour and the large figure."""
    labels = [escape(label) for label in matrix.labels]
    columns = "".join(
        f'<th scope="col"><span class="full">{label}</span>'
        f'<span class="short">{label[:3]}</span></th>'
        for label in labels
    )
    rows = []
    for index, (label, counts) in enumerate(zip(labels, matrix.counts, strict=True)):
        support = sum(counts)
        cells = []
        for column, count in enumerate(counts):
            share = count / support if support else 0.0
            kind = "right" if column == index else "wrong"
            strong = " strong" if share > STRONG else ""
            cells.append(
                f'<td class="{kind}{strong}" style="--p:{min(100, 8 + 92 * share):.0f}%" '
                f'title="{label} taken for {labels[column]}: {count} of {support}">'
                f"{100 * share:.0f}<small>{count}</small></td>"
            )
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="matrix"><colgroup><col>{"<col>" * len(labels)}</colgroup>'
        f"<thead><tr><td></td>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def class_table(per_class: dict[str, ClassResult]) -> str:
    """A bar for each F1 score, ticks for precision and recall, and all figures."""
    rows = []
    for emotion, scores in per_class.items():
        bar = (
            f'<div class="bar"><i style="width:{100 * scores.f1:.1f}%"></i>'
            f'<u style="left:calc({100 * scores.precision:.1f}% - 1px)"></u>'
            f'<u class="recall" style="left:calc({100 * scores.recall:.1f}% - 1px)"></u></div>'
        )
        rows.append(
            f'<tr><td>{escape(emotion)}</td><td class="wide">{bar}</td>'
            f"<td>{100 * scores.precision:.1f}</td><td>{100 * scores.recall:.1f}</td>"
            f"<td><b>{100 * scores.f1:.1f}</b></td><td>{scores.support:,}</td></tr>"
        )
    return (
        '<table class="classes"><thead><tr><th>emotion</th><th class="wide"></th>'
        '<th><span class="full">precision</span><span class="short">prec.</span></th>'
        "<th>recall</th><th>F1</th><th>faces</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def reliability_diagram(bins: Sequence[ReliabilityBin], right: str) -> str:
    """Accuracy by confidence, the gap to the ideal diagonal, and how many faces are where.

    Args:
        bins: The faces by confidence.
        right: What accuracy is of: how often the answer is right, or how many people agree.
    """
    left, top, width, height, counts_top, counts_height = 44, 8, 404, 230, 252, 56
    bottom = top + height
    most = max(one.n for one in bins)
    shapes = []
    for tenth in range(0, 11, 2):
        y = bottom - height * tenth / 10
        x = left + width * tenth / 10
        shapes.append(
            f'<line class="grid-line" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{10 * tenth}</text>'
            f'<text x="{x:.1f}" y="{counts_top + counts_height + 16}" text-anchor="middle">'
            f"{10 * tenth}</text>"
        )
    for one in bins:
        if one.confidence is None or one.accuracy is None:
            continue
        x, step = left + width * one.low + 1, width * (one.high - one.low) - 2
        accuracy, confidence = height * one.accuracy, height * one.confidence
        gap_top, gap = bottom - max(accuracy, confidence), abs(accuracy - confidence)
        tall = counts_height * one.n / most
        shapes.append(
            f"<g><title>{one.n} faces, {100 * one.confidence:.1f} % sure on average, "
            f"{right}: {100 * one.accuracy:.1f} %</title>"
            f'<rect class="bin" x="{x:.1f}" y="{bottom - accuracy:.1f}" width="{step:.1f}" '
            f'height="{accuracy:.1f}"/>'
            f'<rect class="gap" x="{x:.1f}" y="{gap_top:.1f}" width="{step:.1f}" '
            f'height="{gap:.1f}"/>'
            f'<rect class="count" x="{x:.1f}" y="{counts_top + counts_height - tall:.1f}" '
            f'width="{step:.1f}" height="{tall:.1f}"/></g>'
        )
    shapes.append(
        f'<line class="ideal" x1="{left}" y1="{bottom}" x2="{left + width}" y2="{top}"/>'
        f'<text x="{left - 7}" y="{counts_top + 34}" text-anchor="end">faces</text>'
        f'<text x="{left + width / 2}" y="{counts_top + counts_height + 34}" '
        'text-anchor="middle">how sure the model is, %</text>'
        f'<text x="12" y="{top + height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {top + height / 2})">{right}, %</text>'
    )
    return (
        f'<svg viewBox="0 0 460 {counts_top + counts_height + 42}" role="img" '
        f'aria-label="Reliability diagram">{"".join(shapes)}</svg>'
    )


def mistakes_grid(mistakes: Sequence[Mistake]) -> str:
    """The faces with their label and the model's answer."""
    figures = [
        f'<figure><img src="{_data_uri(mistake.face)}" width="96" height="96" '
        f'alt="a face labelled {escape(mistake.label)}"><figcaption>{escape(mistake.label)}<br>'
        f"<s>{escape(mistake.predicted)}</s> {percent(mistake.confidence, 0)}</figcaption></figure>"
        for mistake in mistakes
    ]
    return f'<div class="mistakes">{"".join(figures)}</div>'


def _data_uri(face: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
