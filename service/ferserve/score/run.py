"""One run of ``ferserve score``: input → Ray Data → output, from where the last run ended."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pyarrow as pa
import ray

from ferserve.bundle import served_card
from ferserve.cluster.machine import start_ray
from ferserve.cluster.settings import ClusterSettings
from ferserve.schemas import EmotionOptions, ModelReference
from ferserve.score.inputs import Files, Rows, find
from ferserve.score.outputs import Output, Tally
from ferserve.score.places import Place, PlaceError
from ferserve.score.scorer import Scorer, unhurried
from ferserve.serving import load_detector, served_names
from ferserve.settings import Settings, usable_cpus

BATCHES_PER_TASK = 4
"""So many are under way in an actor at a time; what a dead one leaves to be done again."""

MOST_TASKS = 10_000
"""Of a run, whatever its size: Ray keeps account of each."""

BLOCK_BYTES = 1024 * 1024
"""What readers of Parquet hand on at a time, so that a small file keeps every actor busy."""

SHARE = 0.9
"""Of its processors, what an actor reserves; the rest is for those who read for it."""

READER_CPUS = 0.05


@dataclass(frozen=True)
class Job:
    """What to score, how, and where to.

    Attributes:
        source: A local path or a URI.
        target: A folder, likewise.
        column: Of the images in Parquet; None is ``image``.
        batch_size: Images that are handed to an actor at a time.
        workers: Number of actors; None is as many as there are processors for.
    """

    source: str
    target: str
    options: EmotionOptions
    column: str | None = None
    batch_size: int = 32
    workers: int | None = None


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        total: Images of the input.
        skipped: Those that the output had already.
        tally: The others.
        seconds: From the first task to the last row; Ray's own start apart.
    """

    model: ModelReference
    total: int
    skipped: int
    tally: Tally
    seconds: float

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {
            "model": self.model.model_dump(),
            "total": self.total,
            "skipped": self.skipped,
            "scored": self.tally.images,
            "faces": self.tally.faces,
            "problems": dict(sorted(self.tally.problems.items())),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.tally.images / self.seconds, 2) if self.seconds else 0,
        }


def score(
    job: Job,
    settings: Settings,
    cluster: ClusterSettings,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Summary:
    """Scores what has not been scored; starts Ray where it does not run.

    Args:
        job: What to score, how, and where to.
        settings: Of the service; the default model scores.
        cluster: What an actor computes on, and where Ray runs.
        progress: Is told how many of all images are done.

    Raises:
        PlaceError: The input or the output cannot be used.
        ModelError: The model cannot be served.
    """
    name = settings.default_model or served_names(settings)[0]
    settings = unhurried(cluster.of_replica(settings, name))
    load_detector(settings)  # better a clear word here than a dead actor there
    card = served_card(settings.models_dir, name, settings.precision)
    model = ModelReference(name=name, version=card.version, sha256=card.sha256)
    source, target = find(job.source, job.column), Place.of(job.target)
    if source.place.contains(target):
        raise PlaceError(f"{job.target}: is inside of the input")
    output = Output(target, model, job.options.detect)
    work = source.work(output.done)
    skipped = source.total - work.images
    tally = Tally()
    progress(skipped, source.total)
    if not work.images:
        return Summary(model, source.total, skipped, tally, 0.0)
    with _ray(cluster, job.workers or 1):
        started = monotonic()
        done = frozenset(output.done)
        try:
            for table in _scores(source, work.items, done, model, job, settings, cluster):
                tally.add(output.add(table))
                progress(skipped + tally.images, source.total)
        finally:
            output.flush()
    return Summary(model, source.total, skipped, tally, monotonic() - started)


@contextlib.contextmanager
def _ray(cluster: ClusterSettings, workers: int) -> Iterator[None]:
    """Has Ray run; ends it only where it began here."""
    if ray.is_initialized():
        yield
        return
    if cluster.address:
        ray.init(cluster.address)
    else:
        start_ray(max(usable_cpus(), workers * cluster.replica_cpus))
    try:
        yield
    finally:
        ray.shutdown()


def _scores(
    source: Files | Rows,
    items: pa.Table,
    done: frozenset[str],
    model: ModelReference,
    job: Job,
    settings: Settings,
    cluster: ClusterSettings,
) -> Iterator[pa.Table]:
    """Yields the rows of the output as they come."""
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every step
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    rows = 1 if isinstance(source, Rows) else job.batch_size * BATCHES_PER_TASK
    rows = max(rows, math.ceil(len(items) / MOST_TASKS))
    tasks = [items.slice(start, rows) for start in range(0, len(items), rows)]
    images = data.from_arrow(tasks)
    processors = ray.cluster_resources().get("CPU", 1)
    workers = job.workers or max(1, int(processors // cluster.replica_cpus))
    if isinstance(source, Files):
        workers = min(workers, len(tasks))
    else:
        images = images.map_batches(
            source.read,
            fn_kwargs={"done": done, "rows": job.batch_size},
            batch_format="pyarrow",
            num_cpus=READER_CPUS,
        )
    scores = images.map_batches(
        Scorer,
        fn_constructor_args=(settings, model, job.options, source.place.filesystem),
        batch_size=job.batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=SHARE * cluster.replica_cpus,
        num_gpus=cluster.replica_gpus or None,
    )
    yield from scores.iter_batches(batch_size=None, batch_format="pyarrow")
