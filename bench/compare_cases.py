# ruff: noqa: T201 - helps a script that talks to the person who runs it
"""The cases of the comparison. Each measures a round at a time, so that rounds go through all."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ferserve.loadtest.payloads import Payload
from load import photo_640
from peers.measuring import (
    Bench,
    Target,
    bare_answer,
    bare_loop,
    measure_all,
    measure_bare,
    reason,
    say,
    serving,
    tune,
    tune_bare,
)
from peers.registry import FERSERVE, OWN_PROGRAMS, Peer

BARE = "bare"


class Faces:
    """Pre-cropped faces: the bare loop and all services, each at its best.

    Args:
        bench: What all share.
        model: The ONNX file.
        services: With the folders of their programs; ferserve first.
        clients: Numbers of clients that are tried for saturation.
        with_latency: Whether latency is measured, too.
        result: Is filled in.
    """

    def __init__(
        self,
        bench: Bench,
        model: Path,
        services: Sequence[tuple[Peer, Path]],
        clients: Sequence[int],
        with_latency: bool,
        result: dict[str, Any],
    ) -> None:
        self._bench = bench
        self._model = model
        self._services = services
        self._clients = clients
        self._with_latency = with_latency
        self._expected = bare_answer(model)
        self._result = result
        result |= {"bare": [], "tuning": {}, "runs": {}, "failed": {}}

    def measure_round(self, number: int) -> Iterator[None]:
        """Measures everything once; what fails costs nothing else.

        Args:
            number: From 1; tunes in round 1.

        Yields:
            Whenever there is something new in the result.
        """
        label = f"{self._model.stem}, round {number}"
        with_failures_noted(self._result, BARE, label, lambda: self._bare(label))
        yield
        runs = self._result["runs"]
        rate = None
        for peer, programs in self._services:
            measured = with_failures_noted(
                self._result, peer.name, label, partial(self._peer, peer, programs, rate)
            )
            if measured:
                runs.setdefault(peer.name, []).append(measured)
                say(f"{label}: {peer.name}", measured["saturation"])
                if peer is FERSERVE:
                    rate = measured["saturation"]["requests_per_second"] / 2
            yield

    def _bare(self, label: str) -> None:
        tuning = self._result["tuning"]
        if BARE not in tuning:
            tuning[BARE] = tune_bare(self._bench, self._model)
        self._result["bare"].append(measure_bare(self._bench, self._model, tuning[BARE]))
        say(f"{label}: bare", self._result["bare"][-1])

    def _peer(self, peer: Peer, programs: Path, rate: float | None) -> dict[str, Any] | None:
        tuning = self._result["tuning"]
        if peer.name not in tuning:
            tuning[peer.name] = None  # it is tuned once, whatever comes of it
            tuning[peer.name] = tune(
                self._bench, self._model, peer, programs, self._clients, self._expected
            )
        best = tuning[peer.name]
        if not best:
            return None
        variant = peer.variants(len(self._bench.cores))[best["index"]]
        with serving(self._bench, self._model, peer, programs, variant, self._expected) as target:
            return measure_all(self._bench, target, best["clients"], rate, self._with_latency)


class Photos:
    """Photos with a face to be found: ferserve beside its own functions in a loop.

    Args:
        bench: What all share.
        model: The ONNX file.
        clients: Of the closed loop.
        result: Is filled in.
    """

    def __init__(self, bench: Bench, model: Path, clients: int, result: dict[str, Any]) -> None:
        self._bench = bench
        self._model = model
        self._clients = clients
        self._result = result
        result |= {"bare": [], "runs": {}, "failed": {}}

    def measure_round(self, number: int) -> Iterator[None]:
        """Measures both once; as that of ``Faces``."""
        label = f"photos, round {number}"
        with_failures_noted(self._result, BARE, label, lambda: self._bare(label))
        yield
        measured = with_failures_noted(self._result, FERSERVE.name, label, self._ferserve)
        if measured:
            self._result["runs"].setdefault(FERSERVE.name, []).append(measured)
            say(f"{label}: ferserve", measured["saturation"])
        yield

    def _bare(self, label: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(photo_640())
            file.flush()
            self._result["bare"] += bare_loop(self._bench, self._model, "--photo", file.name)
        say(f"{label}: bare", self._result["bare"][-1])

    def _ferserve(self) -> dict[str, Any]:
        (variant,) = FERSERVE.variants(len(self._bench.cores))
        expected = bare_answer(self._model)
        with serving(self._bench, self._model, FERSERVE, OWN_PROGRAMS, variant, expected) as target:
            photos = Target(target.service, target.url, Payload(photo_640(), "image/jpeg"))
            return measure_all(self._bench, photos, self._clients, None, with_latency=True)


def with_failures_noted(
    result: dict[str, Any], name: str, label: str, work: Callable[[], Any]
) -> Any:
    """Returns what ``work`` returns, or None where it failed, which is noted in the result."""
    try:
        return work()
    except Exception as error:
        print(f"{label}: {name}: {error}", file=sys.stderr, flush=True)
        result["failed"].setdefault(name, []).append(f"{label}: {reason(error)}")
        return None
