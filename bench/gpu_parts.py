# ruff: noqa: T201 - helps a script that talks to the person who runs it
"""The parts of ``bench/gpu.py``: limits, speed, accuracy, Keras, and the service."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_tables
import numpy as np
import onnx
from ferserve_training.multiply_adds import multiply_adds
from gpu_cells import MIXED
from gpu_limits import peak
from gpu_machine import card, first_lines
from gpu_plan import Combination, combinations, estimate_seconds, precisions
from gpu_results import Results
from numpy.typing import NDArray

BENCH = Path(__file__).resolve().parent
CHECKED_FACES = 33
ACCURACY_FACES = 1000
LARGEST_PIECE = 32
COMBINATION_SECONDS = 100.0
"""After which a process is ended, and counts as failed with what it has measured."""

CALLERS = (1, 2)
SERVICE_CLIENTS = (4, 8, 16)
SERVICE_GOAL = 0.9


class Failed(Exception):  # noqa: N818 - an event
    """A process that measures failed; the message says how."""


class Bench:
    """What is measured; each part goes on where the results end.

    Args:
        options: As ``bench/gpu.py`` reads them.
        provider: ``cpu``, ``cuda`` or ``tensorrt``.
        results: Where everything is added to.
        folder: For temporary files.
    """

    def __init__(
        self, options: argparse.Namespace, provider: str, results: Results, folder: Path
    ) -> None:
        self._options = options
        self._provider = provider
        self._results = results
        self._folder = folder
        self._deadline = time.monotonic() + 60 * options.minutes

    def limits(self) -> None:
        """Counts the operations of each model."""
        for name in self._options.models:
            model = onnx.load(self._options.models_dir / f"{name}.onnx")
            operations = 2 * multiply_adds(model)  # as data sheets count
            peaks = {p: peak(card(), p) for p in self._options.precisions if self._on_gpu}
            self._results.document["models"][name] = {
                "gflop_per_face": operations / 1e9,
                "limit_faces_per_second": {p: x / operations for p, x in peaks.items() if x},
            }
        self._results.write()

    def speed(self) -> None:
        """Measures every combination of model, precision and strategy."""
        noise = np.random.default_rng(2).integers(0, 256, (CHECKED_FACES, 48, 48), np.uint8)
        np.save(self._faces("noise"), noise)
        batches = [*self._options.batches, MIXED]
        todo = [
            one
            for one in combinations(self._options, self._provider)
            if not self._results.has("speed", one.key)
        ]
        seconds = self._options.seconds
        estimate = estimate_seconds(len(todo), len(batches), seconds, len(CALLERS)) / 60
        print(
            f"{len(todo)} combinations of {len(CALLERS) * len(batches)} measurements of "
            f"{seconds:g} s: about {estimate:.1f} minutes, stopped after {self._options.minutes:g}"
        )
        for number, one in enumerate(todo, 1):
            if self._late("speed"):
                return
            found = self._measure(one, batches)
            self._results.add("speed", {**one.key, **found})
            print(f"[{number}/{len(todo)}] {one}: {gpu_tables.summary(found)}", flush=True)

    def accuracy(self) -> None:
        """Rates test faces in every precision."""
        if self._options.data is None:
            self._results.skip("accuracy", "--data was not given")
            return
        from ferserve.fer2013.reader import read_fer2013

        test = read_fer2013(self._options.data).test
        chosen = np.random.default_rng(0).permutation(len(test))[:ACCURACY_FACES]
        np.save(self._faces("test"), test.faces[chosen])
        for key in self._todo("accuracy"):
            model, precision = key["model"], key["precision"]
            try:
                exact = self._answers(model, "test", "cpu", "float32")
                rows = self._answers(model, "test", self._provider, precision)
            except Failed as failure:
                self._results.add("accuracy", {**key, "failed": str(failure)})
                continue
            choice = rows.argmax(axis=1)
            found = {
                "n": len(rows),
                "accuracy": float((choice == test.labels[chosen]).mean()),
                "same_as_cpu_float32": float((choice == exact.argmax(axis=1)).mean()),
                "largest_difference": float(np.abs(rows - exact).max()),
            }
            self._results.add("accuracy", {**key, **found})
            print(f"accuracy, {model} in {precision}: {found}", flush=True)

    def keras(self) -> None:
        """Measures Keras with the smallest and the largest batch."""
        if not self._options.keras:
            self._results.skip("keras", "--keras was not given")
            return
        for key in self._todo("keras"):
            task = {
                "card": str(self._options.models_dir / f"{key['model']}.json"),
                "precision": key["precision"],
                "batches": sorted({self._options.batches[0], self._options.batches[-1]}),
                "seconds": self._options.seconds,
                "needs_gpu": self._on_gpu,
            }
            lines, failure = self._child("gpu_keras.py", task)
            if reason := next((x["reason"] for x in lines if x["kind"] == "skipped"), None):
                self._results.skip("keras", reason)
                return
            found: dict[str, Any] = {"cells": [x for x in lines if x["kind"] == "cell"]}
            found |= {"failed": failure} if failure else {}
            self._results.add("keras", {**key, **found})
            print(f"Keras, {key['model']} in {key['precision']}: {gpu_tables.summary(found)}")

    def service(self) -> None:
        """Drives the service, run the way that was fastest in float32, and compares."""
        if not self._options.service:
            self._results.skip("service", "--service was not given")
            return
        precision = precisions(["float32", "tf32"], self._provider)[0]
        for name in self._options.service:
            if self._results.has("service", {"model": name}):
                continue
            best = self._results.best(name, precision)
            if best is None:
                self._results.skip("service", f"no speed of {name} in {precision} to compare with")
            else:
                self._drive_service(name, precision, best)

    def _drive_service(self, name: str, precision: str, best: dict[str, Any]) -> None:
        try:
            import gpu_service
        except ImportError as error:
            self._results.skip("service", f"{error.name} is not installed")
            return
        settings = {
            "models_dir": self._options.models_dir.resolve(),
            "models": name,
            "provider": self._provider,
            "precision": precision,
            "batch_strategy": best["strategy"],
            "max_batch": self._options.batches[-1],
            "max_queue": 8192,
            "conv_layout": self._options.conv_layout,
            "cudnn_conv_algo_search": self._options.conv_search,
        }
        log, seconds = self._folder / "log", self._options.service_seconds
        try:
            found = gpu_service.measure(settings, SERVICE_CLIENTS, seconds, log)
        except gpu_service.ServiceFailed as failure:
            self._results.add("service", {"model": name, "failed": str(failure)})
            print(f"service, {name}: {failure}")
            return
        share = found["faces_per_second"] / best["faces_per_second"]
        if self._on_gpu:
            goal = f"{name} through the service: {SERVICE_GOAL} of the bare session's best"
            self._results.document["met"][goal] = share >= SERVICE_GOAL
        facts = {"model": name, "precision": precision, "bare": best, "share_of_bare": share}
        self._results.add("service", facts | found)
        print(f"service, {name}: {found['faces_per_second']:.0f} faces/s, {share:.2f} of bare")

    def _measure(self, one: Combination, batches: list[Any]) -> dict[str, Any]:
        """Measures a combination; what was measured before a failure stays."""
        try:
            self._answers(one.model, "noise", "cpu", "float32")
        except Failed as failure:
            return {"cells": [], "failed": str(failure)}
        task = self._task(one.model, "noise", self._provider, one.precision)
        task["options"] |= {"strategy": one.strategy, "max_batch": self._options.batches[-1]}
        task |= {
            "kind": "speed",
            "reference": str(self._rows(one.model, "noise", "cpu", "float32")),
            "batches": batches,
            "callers": CALLERS,
            "seconds": self._options.seconds,
        }
        lines, failure = self._child("gpu_cells.py", task)
        found: dict[str, Any] = {"cells": []}
        for line in lines:
            kind = line.pop("kind")
            if kind == "cell":
                found["cells"].append(line)
            else:
                found |= {"difference": line} if kind == "difference" else line
        return found | ({"failed": failure} if failure else {})

    def _answers(
        self, model: str, faces: str, provider: str, precision: str
    ) -> NDArray[np.float32]:
        """Returns the probabilities of saved faces; computed once.

        Raises:
            Failed: They cannot be computed.
        """
        out = self._rows(model, faces, provider, precision)
        if not out.exists():
            task = self._task(model, faces, provider, precision)
            task |= {"kind": "answers", "out": str(out)}
            _, failure = self._child("gpu_cells.py", task)
            if failure:
                raise Failed(failure)
        rows: NDArray[np.float32] = np.load(out)
        return rows

    def _faces(self, name: str) -> Path:
        return self._folder / f"{name}.npy"

    def _rows(self, model: str, faces: str, provider: str, precision: str) -> Path:
        return self._folder / f"{model}-{faces}-{provider}-{precision}.npy"

    def _task(self, model: str, faces: str, provider: str, precision: str) -> dict[str, Any]:
        return {
            "models_dir": str(self._options.models_dir),
            "model": model,
            "faces": str(self._faces(faces)),
            "options": {
                "provider": provider,
                "precision": precision,
                "intra_op_threads": len(os.sched_getaffinity(0)) if provider == "cpu" else 1,
                "max_batch": LARGEST_PIECE,
                "conv_layout": self._options.conv_layout,
                "cudnn_conv_algo_search": self._options.conv_search,
            },
        }

    def _child(self, script: str, task: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
        command = [sys.executable, str(BENCH / script), json.dumps(task)]
        return first_lines(command, COMBINATION_SECONDS)

    def _todo(self, part: str) -> Iterator[dict[str, str]]:
        """Yields models and precisions that are not measured, until time is over."""
        for model in self._options.models:
            for precision in precisions(self._options.precisions, self._provider):
                key = {"model": model, "precision": precision}
                if self._results.has(part, key):
                    continue
                if self._late(part):
                    return
                yield key

    def _late(self, part: str) -> bool:
        if time.monotonic() < self._deadline:
            return False
        self._results.skip(part, f"not done after {self._options.minutes:g} minutes; --resume")
        return True

    @property
    def _on_gpu(self) -> bool:
        return self._provider != "cpu"
