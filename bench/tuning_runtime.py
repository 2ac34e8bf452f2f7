"""What ONNX Runtime offers besides: buffers that are kept, its optimiser, its arena."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime as ort
from ferserve.bundle import CPU, ModelBundle, load_bundle
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.runtime.options import Precision, Strategy
from ferserve.runtime.runners import default_strategy
from ferserve.serving import MAX_CPU_BATCH
from ferserve.settings import Settings, installed_models, usable_cpus
from numpy.typing import NDArray
from tuning_measuring import (
    TITLES,
    Choice,
    Sample,
    Way,
    in_threads,
    open_session,
    served_options,
)
from tuning_sessions import SPINNING, runner

INT8 = "session.disable_quant_qdq"

_SWITCH = {True: "on", False: "off"}


STRATEGIES: dict[Strategy, str] = {
    "dynamic": "new arrays",
    "bound": "IO binding, kept buffers",
    "sessions": "IO binding, kept buffers, a session a batch size",
}


def buffers() -> Iterator[Choice]:
    """From separate faces to probabilities: new arrays, or buffers that are kept."""
    cores = usable_cpus()
    bundles = {
        name: load_bundle(
            installed_models(),
            "custom_cnn",
            provider="cpu",
            strategy=strategy,
            workers=cores,
            max_batch=MAX_CPU_BATCH,
        )
        for strategy, name in STRATEGIES.items()
    }
    for batch in (1, MAX_CPU_BATCH):
        crops = [np.full((FACE_SIDE, FACE_SIDE), 20 * number, np.uint8) for number in range(batch)]
        yield Choice(
            f"Copies, Custom CNN, batches of {batch}",
            "face",
            [
                Way(name, in_threads(*[_predicting(bundle, crops)] * cores))
                for name, bundle in bundles.items()
            ],
            STRATEGIES[default_strategy(CPU)],
        )


def _predicting(bundle: ModelBundle, crops: list[NDArray[np.uint8]]) -> Callable[[], int]:
    """Returns a function that does as the service with a batch."""
    return lambda: len(bundle.predict(np.stack(crops)))


def optimiser() -> Iterator[Choice]:
    """ONNX Runtime's own optimisation of the graph, and weights that were stored as int8."""
    levels = ort.GraphOptimizationLevel
    for model in ("custom_cnn", "resnet50v2"):
        served = served_options(model)
        yield Choice(
            f"Graph optimisation, {TITLES[model]}, batches of {MAX_CPU_BATCH}, 1 thread",
            "face",
            [
                _way_of_options(
                    level.name,
                    model,
                    lambda o, level=level: setattr(o, "graph_optimization_level", level),
                )
                for level in (
                    *(levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC),
                    *(levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL),
                )
            ],
            served.graph_optimization_level.name,
        )
        names = {"0": "kept as int8", "1": "float32 from loading on"}
        yield Choice(
            f"Weights stored as int8, {TITLES[model]}, batches of {MAX_CPU_BATCH}, 1 thread",
            "face",
            [
                _way_of_options(
                    name,
                    model,
                    lambda o, value=value: o.add_session_config_entry(INT8, value),
                )
                for value, name in names.items()
            ],
            names[served.get_session_config_entry(INT8)],
        )


def arithmetic() -> Iterator[Choice]:
    """In what convolutions compute, and what that costs in accuracy."""
    used: Precision = Settings.model_fields["precision"].default
    levels = np.arange(0, 20 * MAX_CPU_BATCH, 20, np.uint8)
    crops = [np.full((FACE_SIDE, FACE_SIDE), level) for level in levels]
    for model in TITLES:
        ways = []
        for precision in ("float32", "int8"):
            bundle = load_bundle(
                installed_models(),
                model,
                provider="cpu",
                precision=precision,
                max_batch=MAX_CPU_BATCH,
            )
            accuracy = 100 * bundle.card.metrics["all"].accuracy
            columns = {"right of the test images, %": round(accuracy, 2)}
            ways.append(Way(precision, in_threads(_predicting(bundle, crops)), columns))
        yield Choice(
            f"Arithmetic, {TITLES[model]}, batches of {MAX_CPU_BATCH}, 1 thread",
            "face",
            ways,
            used,
            remark="`FERSERVE_PRECISION=int8` is the other.",
        )


def arena() -> Iterator[Choice]:
    """Memory that ONNX Runtime keeps for the next run, or asks the system for each time."""
    for model in ("custom_cnn", "resnet50v2"):
        served = served_options(model)
        entries = {key: served.get_session_config_entry(key) for key in (SPINNING, INT8)}
        yield Choice(
            f"Memory arena, {TITLES[model]}, a run of {MAX_CPU_BATCH} faces a processor",
            "face",
            [Way(name, _in_a_process(model, entries, on)) for on, name in _SWITCH.items()],
            _SWITCH[served.enable_cpu_mem_arena],
            remark="Memory is what the process holds more than before it loaded the model.",
        )


def run_with_arena(model: str, entries: dict[str, str], on: bool, seconds: float) -> Sample:
    """Measures processor time and memory, for which it needs a process of its own."""
    before = _resident_megabytes()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = on
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = open_session(model, options)
    loaded = _resident_megabytes() - before
    loops = [runner(session, MAX_CPU_BATCH)] * usable_cpus()
    in_threads(*loops)(0)
    sample = in_threads(*loops)(seconds)
    columns = {"loaded, MB": loaded, "after runs, MB": _resident_megabytes() - before}
    return Sample(sample.units, sample.cpu_seconds, sample.seconds, columns)


def _in_a_process(model: str, entries: dict[str, str], on: bool) -> Callable[[float], Sample]:
    def measure(seconds: float) -> Sample:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(run_with_arena, model, entries, on, seconds).result()

    return measure


def _way_of_options(name: str, model: str, change: Callable[[ort.SessionOptions], None]) -> Way:
    """The service's options but for a change, with one run at a time."""
    options = served_options(model)
    change(options)
    started = time.monotonic()
    session = open_session(model, options)
    loading = time.monotonic() - started
    return Way(name, in_threads(runner(session, MAX_CPU_BATCH)), {"loading, s": loading})


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
