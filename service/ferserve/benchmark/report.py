"""A benchmark as one HTML page, from the template ``report.html``."""

import base64

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from ferserve.benchmark.jobs import Job
from ferserve.benchmark.peers import KINDS, PEERS, PEOPLE
from ferserve.inputs import as_bytes

SPLITS = {
    "all": "all FER2013 test images",
    "public": "FER2013 PublicTest",
    "private": "FER2013 PrivateTest",
    "leak_free": "FER2013 test images that are not in Training",
    "train": "FER2013 Training: images that models are trained on",
}


def render_report(job: Job, thumbnails: bool = False) -> str:
    """Returns the page of a job in any state; one that has not ended reloads itself."""
    environment = Environment(
        loader=PackageLoader("ferserve.benchmark", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "percent": _percent,
        "thousands": lambda number: f"{number:,.0f}",
    }
    state = job.state
    votes = state.against == "votes"
    about = SPLITS[state.split] if state.split else "an uploaded set of images"
    about += ", a sample" if state.limit else ""
    about += ", against people’s majority (FER+)" if votes else ""
    page = environment.get_template("report.html").render(
        about=about,
        ended=job.ended,
        job=state,
        kinds=KINDS,
        mistakes=job.mistakes or {},
        peers=() if votes else PEERS.get(state.split or "", ()),
        people=PEOPLE,
        result=state.result,
        thumbnails=thumbnails,
    )
    return page.lstrip()


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\u00a0%"  # with a space that does not break


def _data_uri(face: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(as_bytes(face)).decode()
