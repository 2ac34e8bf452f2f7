"""A benchmark as one HTML page, from the template ``report.html``."""

import base64
import io
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ferserve.benchmark.jobs import Job
from ferserve.benchmark.peers import KINDS, PEERS, PEOPLE, Peer
from ferserve.benchmark.schemas import ConfusionMatrix, ModelResult

SPLITS = {
    "all": "all FER2013 test images",
    "public": "FER2013 PublicTest",
    "private": "FER2013 PrivateTest",
    "leak_free": "FER2013 test images that are not in Training",
    "train": "FER2013 Training: images that models are trained on",
}
CONFUSIONS = 5
"""Confusions put into words."""


def render_report(job: Job, thumbnails: bool = False) -> str:
    """Returns the page of a job in any state; one that has not ended reloads itself.

    Args:
        job: The job.
        thumbnails: Whether to show faces.
    """
    result = job.outcome.result if job.outcome else None
    by_votes = job.spec.against == "votes"
    peers = () if by_votes else PEERS.get(job.spec.split or "", ())
    about = SPLITS[job.spec.split] if job.spec.split else "an uploaded set of images"
    about += ", a sample" if job.spec.limit else ""
    about += ", against people’s majority (FER+)" if by_votes else ""
    environment = Environment(
        loader=PackageLoader("ferserve.benchmark", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "confusions": _confusions,
        "data_uri": _data_uri,
        "percent": _percent,
        "thousands": lambda number: f"{number:,.0f}",
    }
    page = environment.get_template("report.html").render(
        about=about,
        job=job,
        kinds=KINDS,
        peers=peers,
        people=PEOPLE,
        result=result,
        scale=_scale(result.results, peers) if result else None,
        style=Markup((files("ferserve.benchmark") / "report.css").read_text("utf-8")),  # noqa: S704
        thumbnails=thumbnails,
    )
    return page.lstrip()


def _percent(share: float, digits: int = 1) -> str:
    """``0.6472`` → ``64.7 %``, with a space that does not break."""
    return f"{100 * share:.{digits}f}\u00a0%"


def _scale(results: Sequence[ModelResult], peers: Sequence[Peer]) -> dict[str, Any]:
    """Places everybody's accuracy on an axis in whole tens of %, the best first."""
    values = [*(one.accuracy for one in results), *(peer.accuracy for peer in peers)]
    low = math.floor(10 * max(0.0, min(values) - 0.03)) / 10
    high = math.ceil(10 * min(1.0, max(values) + 0.03)) / 10

    def at(share: float) -> float:
        return round(100 * (min(max(share, low), high) - low) / (high - low), 2)

    rungs: list[dict[str, Any]] = [
        {
            "ours": True,
            "name": one.model.name,
            "accuracy": one.accuracy,
            "at": at(one.accuracy),
            "low": at(one.accuracy_interval.low),
            "high": at(one.accuracy_interval.high),
        }
        for one in results
    ]
    rungs += [
        {
            "ours": False,
            "name": peer.name,
            "accuracy": peer.accuracy,
            "at": at(peer.accuracy),
            "kind": peer.kind,
        }
        for peer in peers
    ]
    rungs.sort(key=lambda rung: rung["accuracy"], reverse=True)
    tens = range(round(10 * low), round(10 * high) + 1)
    return {"rungs": rungs, "ticks": [(at(ten / 10), 10 * ten) for ten in tens]}


def _confusions(matrix: ConfusionMatrix) -> list[dict[str, Any]]:
    """Returns the most frequent mistakes, the most frequent first."""
    found: list[dict[str, Any]] = [
        {"label": label, "answer": answer, "count": count, "share": count / sum(row)}
        for label, row in zip(matrix.labels, matrix.counts, strict=True)
        for answer, count in zip(matrix.labels, row, strict=True)
        if label != answer and count
    ]
    return sorted(found, key=lambda mix: mix["count"], reverse=True)[:CONFUSIONS]


def _data_uri(face: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
