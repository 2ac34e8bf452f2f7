"""How many runs at a time, with how many threads and faces each."""

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime as ort
from ferserve.bundle import INPUT, OUTPUT
from ferserve.fer2013.labels import FACE_SIDE
from ferserve.serving import MAX_CPU_BATCH
from ferserve.settings import Settings, usable_cpus
from tuning_measuring import TITLES, Choice, Way, in_threads, open_session, served_options

SPINNING = "session.intra_op.allow_spinning"

BATCHES = {
    "custom_cnn": (1, 2, 4, 8, 16, 32),
    "resnet50v2": (1, 2, 4, 8, 16, 32),
    "vgg16": (1, 2, 4, 8),  # 32 faces take seconds
}


def runner(session: ort.InferenceSession, batch: int) -> Callable[[], int]:
    """Returns a function that rates a batch of random faces and says how many they were."""
    shape = (batch, FACE_SIDE, FACE_SIDE)
    faces = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def once() -> int:
        session.run([OUTPUT], {INPUT: faces})
        return batch

    return once


def session_with(model: str, threads: int, spinning: bool | None = None) -> ort.InferenceSession:
    """Opens a model as the service does but for the threads of a run, and whether they spin."""
    options = served_options(model)
    options.intra_op_num_threads = threads
    if spinning is not None:
        options.add_session_config_entry(SPINNING, str(int(spinning)))
    return open_session(model, options)


def sessions_and_threads() -> Iterator[Choice]:
    """One run with several threads, or several runs with one."""
    cores = usable_cpus()
    settings = Settings()
    used = _shared(settings.inference_workers or cores, settings.intra_op_threads)
    for model, batch in (("custom_cnn", 1), ("custom_cnn", 8), ("resnet50v2", 8)):
        single, many = session_with(model, 1), session_with(model, cores)
        own = [session_with(model, 1) for _ in range(cores)]
        ways = {
            _shared(1, 1): in_threads(runner(single, batch)),
            _shared(cores, 1): in_threads(*[runner(single, batch)] * cores),
            f"{cores} sessions, 1 run with 1 thread each": in_threads(
                *(runner(session, batch) for session in own)
            ),
            _shared(1, cores): in_threads(runner(many, batch)),
            _shared(cores, cores): in_threads(*[runner(many, batch)] * cores),
        }
        yield Choice(
            f"Runs × threads, {TITLES[model]}, batches of {batch}",
            "face",
            [Way(name, measure) for name, measure in ways.items()],
            used,
            judged_by="rate",
        )


def batches() -> Iterator[Choice]:
    """Faces in a run, with a run a processor."""
    cores = usable_cpus()
    largest = min(Settings().max_batch, MAX_CPU_BATCH)
    for model, sizes in BATCHES.items():
        session = session_with(model, 1)
        yield Choice(
            f"Batch size, {TITLES[model]}",
            "face",
            [
                Way(f"{size}", in_threads(*[runner(session, size)] * cores))
                for size in sorted({*sizes, largest})
            ],
            str(largest),
            judged_by="rate",
            remark=f"The service never waits for a batch to fill; {largest} is the most it takes.",
        )


def spinning() -> Iterator[Choice]:
    """Whether threads of one run that have nothing to do wait actively."""
    cores = max(usable_cpus(), 2)
    for model in ("custom_cnn", "resnet50v2"):
        used = served_options(model).get_session_config_entry(SPINNING)
        yield Choice(
            f"Spinning, {TITLES[model]}, 1 run with {cores} threads, batches of 1",
            "face",
            [
                Way(_SPINS[value], in_threads(runner(session_with(model, cores, value), 1)))
                for value in _SPINS
            ],
            _SPINS[used == "1"],
        )


_SPINS = {False: "off", True: "on"}


def _shared(runs: int, threads: int) -> str:
    return (
        f"1 session, {runs} run{'s' * (runs > 1)} at a time"
        f" with {threads} thread{'s' * (threads > 1)}"
    )
