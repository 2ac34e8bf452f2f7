"""Ways to do the same thing, measured in turn, so that whatever disturbs the machine hits all."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import onnxruntime as ort
from ferserve.runtime.options import RuntimeOptions
from ferserve.runtime.sessions import Sessions
from ferserve.settings import installed_models

TITLES = {"custom_cnn": "Custom CNN", "vgg16": "VGG16", "resnet50v2": "ResNet50V2"}


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        units: How many were done.
        cpu_seconds: Processor time that took.
        seconds: Time that took.
        columns: What else was measured, by its name with its unit.
    """

    units: int
    cpu_seconds: float
    seconds: float
    columns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """One way to do it.

    Attributes:
        name: In words.
        measure: Does it for about so many seconds, at least once.
        columns: What else is to be known of it, by name.
    """

    name: str
    measure: Callable[[float], Sample]
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Several ways to do the same thing.

    Attributes:
        title: In words.
        unit: What is counted: ``face``, ``photo``, ``request``.
        ways: All of them.
        used: Name of the service's way; None where it is the caller's choice.
        judged_by: ``rate`` where the ways differ in how many processors they keep busy, else
            ``cpu``: processor time, which other programs disturb less.
        remark: A sentence to go with the figures.
    """

    title: str
    unit: str
    ways: Sequence[Way]
    used: str | None
    judged_by: Literal["cpu", "rate"] = "cpu"
    remark: str = ""


def in_threads(*loops: Callable[[], int]) -> Callable[[float], Sample]:
    """Measures functions that each run again and again in a thread of their own.

    Args:
        loops: Each returns how many units it did.
    """

    def repeat(once: Callable[[], int], deadline: float) -> int:
        units = once()
        while time.monotonic() < deadline:
            units += once()
        return units

    def measure(seconds: float) -> Sample:
        with ThreadPoolExecutor(len(loops)) as pool:
            started, used = time.monotonic(), time.process_time()
            units = sum(pool.map(repeat, loops, [started + seconds] * len(loops)))
            return Sample(units, time.process_time() - used, time.monotonic() - started)

    return measure


def compare(choice: Choice, rounds: int, seconds: float) -> dict[str, Any]:
    """Measures each way ``rounds`` times, one after the other, and returns every figure."""
    names = [way.name for way in choice.ways]
    if choice.used is not None and choice.used not in names:
        raise ValueError(f"{choice.title}: the service's way, {choice.used}, is not in {names}")
    for way in choice.ways:
        way.measure(0)  # the first run allocates
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for _ in range(rounds):
        for way in choice.ways:
            samples[way.name].append(way.measure(seconds))
    return {
        "title": choice.title,
        "unit": choice.unit,
        "used": choice.used,
        "judged_by": choice.judged_by,
        "remark": choice.remark,
        "ways": {way.name: _figures(samples[way.name], way.columns) for way in choice.ways},
    }


def _figures(samples: Sequence[Sample], columns: Mapping[str, Any]) -> dict[str, Any]:
    """By round, in order; what does not change is there once."""
    return {
        "cpu_ms": [1000 * sample.cpu_seconds / sample.units for sample in samples],
        "per_second": [sample.units / sample.seconds for sample in samples],
        "columns": {
            **columns,
            **{name: [sample.columns[name] for sample in samples] for name in samples[0].columns},
        },
    }


def served_options(model: str) -> ort.SessionOptions:
    """Returns the options that the service opens a model with on the CPU; they may be changed."""
    content = (installed_models() / f"{model}.onnx").read_bytes()
    options = Sessions(
        content, model, RuntimeOptions(provider="cpu")
    ).any_size.get_session_options()
    return cast(ort.SessionOptions, options)


def open_session(model: str, options: ort.SessionOptions) -> ort.InferenceSession:
    """Opens a model on the CPU."""
    path = installed_models() / f"{model}.onnx"
    return ort.InferenceSession(path, options, ["CPUExecutionProvider"])
