"""``ferserve score``: many images, in files or in Parquet, on Ray Data; extra ``cluster``.

The output is a folder of Parquet files that only ever gains whole files, so that a run can go on
where the last one ended.
"""

import logging
import math
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any, cast

import pyarrow as pa
import ray
from pyarrow import fs, parquet
from pyarrow.dataset import dataset
from ray import data

from ferserve import logs
from ferserve.cluster import start_ray
from ferserve.errors import InternalError, NotReady, PayloadTooLarge, Refusal
from ferserve.fer2013.labels import EMOTIONS
from ferserve.models import read_card
from ferserve.recognizer import Recognizer
from ferserve.schemas import EmotionOptions, ModelReference, Recognition, RecognizeOptions
from ferserve.serving import default_name, load_detector, served_names
from ferserve.settings import ClusterSettings, Settings, usable_cpus

_FACE = pa.struct(
    {
        "box": pa.struct(dict.fromkeys(("x", "y", "width", "height"), pa.int32())),
        "face_confidence": pa.float32(),
        "dominant_emotion": pa.string(),
        "confidence": pa.float32(),
        "emotions": pa.struct(dict.fromkeys(EMOTIONS, pa.float32())),
        "warnings": pa.list_(pa.string()),
    }
)
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "status": pa.string(),
        "problem_code": pa.string(),
        "problem_detail": pa.string(),
        "faces": pa.list_(_FACE),
        "detect": pa.string(),
        "model_name": pa.string(),
        "model_version": pa.string(),
        "model_sha256": pa.string(),
    }
)
"""A row an image. ``status`` is ``ok`` or ``problem``; ``faces`` is null where there is a problem
and empty where there is no face; boxes are as in the API."""

ROWS_PER_FILE = 10_000
"""What is not in a file yet is done again by the next run."""

MOST_TASKS = 10_000
"""Of a run, whatever its size: Ray keeps account of each."""

READERS = 16
"""Files that a worker reads at a time: an object store takes its time for each."""

A_DAY_MS = 86_400_000


def score(
    source: str,
    target: str,
    settings: Settings,
    cluster: ClusterSettings,
    *,
    options: EmotionOptions | None = None,
    column: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> dict[str, Any]:
    """Scores what has not been scored; starts Ray where it does not run.

    Args:
        source: A local path or a URI: a folder of images or of Parquet files, or one file.
        target: A folder, likewise.
        settings: Of the service; the default model scores.
        cluster: What a worker computes on.
        options: As for one image of the API.
        column: Of the images in Parquet, by default ``image``.
        batch_size: Images that a worker answers at a time.
        workers: Number of workers; None is as many as there are processors for.
        progress: Is told how many of all images are done.

    Returns:
        What the run did, for JSON.

    Raises:
        ValueError: The input or the output cannot be used.
        ModelError: The model cannot be served.
    """
    name = default_name(settings, served_names(settings))
    load_detector(settings)  # better a clear word here than a dead worker there
    options = options or EmotionOptions()
    model = _reference(settings, name)
    settings = settings.model_copy(update={"models": (name,), "default_model": name})
    filesystem, path = _locate(source)
    items = _find(filesystem, path, column)
    if PurePosixPath(_locate(target)[1]).is_relative_to(path):
        raise ValueError(f"{target}: is inside of the input")
    output = _Output(*_locate(target), (model.sha256, options.detect))
    left = [item for item in items if not output.done.issuperset(item["ids"])]
    total = sum(len(item["ids"]) for item in items)
    skipped = sum(id_ in output.done for item in items for id_ in item["ids"])
    scorer = (cluster.for_replica(settings), options, filesystem, batch_size)
    faces, problems, seconds = 0, Counter[str](), 0.0
    progress(skipped, total)
    if left:
        if not ray.is_initialized():
            start_ray((workers or 1) * cluster.replica_cpus)
        started = monotonic()
        try:
            for table in _score(left, scorer, workers, cluster):
                new = output.add(table)
                faces += sum(map(len, filter(None, new["faces"].to_pylist())))
                problems.update(filter(None, new["problem_code"].to_pylist()))
                progress(skipped + output.added, total)
        finally:
            output.flush()
        seconds = monotonic() - started
    return {
        "model": model.model_dump(),
        "total": total,
        "skipped": skipped,
        "scored": output.added,
        "faces": faces,
        "problems": dict(problems.most_common()),
        "seconds": round(seconds, 3),
        "images_per_second": round(output.added / seconds, 2) if seconds else 0,
    }


class Scorer:
    """Reads and scores images, in a worker of Ray Data.

    Args:
        settings: With the one model.
        options: As for one image of the API.
        filesystem: Of the items.
        batch_size: Rows of Parquet answered at a time.
    """

    def __init__(
        self,
        settings: Settings,
        options: EmotionOptions,
        filesystem: fs.FileSystem,
        batch_size: int,
    ) -> None:
        logs.configure(settings.log_format)
        self._recognize = _recognizer(settings, options)
        model = _reference(settings, settings.models[0]).model_dump()
        self._made_with = {f"model_{key}": value for key, value in model.items()}
        self._made_with["detect"] = options.detect
        self._filesystem = filesystem
        self._batch_size = batch_size
        self._max_bytes = settings.max_upload_bytes
        self._threads = ThreadPoolExecutor(READERS)

    def __call__(self, items: pa.Table) -> Iterator[pa.Table]:
        """Scores the images of items as ``_find`` returns them: yields rows of ``SCHEMA``."""
        for ids, images in self._images(items.to_pylist()):
            answers = iter(self._recognize([image for image in images if isinstance(image, bytes)]))
            outcomes = [next(answers) if isinstance(image, bytes) else image for image in images]
            rows = [self._row(*row) for row in zip(ids, outcomes, strict=True)]
            yield pa.Table.from_pylist(rows, SCHEMA)

    def _images(
        self, items: list[dict[str, Any]]
    ) -> Iterator[tuple[list[str], list[bytes | Exception]]]:
        if "column" not in items[0]:
            paths = [item["path"] for item in items]
            yield [item["ids"][0] for item in items], list(self._threads.map(self._read, paths))
            return
        for item in items:
            ids = iter(item["ids"])
            with self._filesystem.open_input_file(item["path"]) as source:
                for batch in parquet.ParquetFile(source).iter_batches(
                    self._batch_size, row_groups=[item["group"]], columns=[item["column"]]
                ):
                    images = batch.column(0)
                    if pa.types.is_struct(images.type):
                        images = images.field("bytes")
                    contents = [image or b"" for image in images.to_pylist()]
                    yield list(islice(ids, len(contents))), contents

    def _read(self, path: str) -> bytes | Exception:
        try:
            with self._filesystem.open_input_file(path) as source:
                if source.size() > self._max_bytes:
                    return PayloadTooLarge(f"the file may have at most {self._max_bytes} bytes")
                return bytes(source.read())
        except OSError as error:
            return error

    def _row(self, id_: str, outcome: Recognition | Exception) -> dict[str, Any]:
        row = {"id": id_, "status": "problem"} | self._made_with
        if isinstance(outcome, Recognition):
            faces = [face.model_dump() for face in outcome.faces]
            return row | {"status": "ok", "faces": faces}
        if isinstance(outcome, OSError):
            detail = outcome.strerror or str(outcome)
            return row | {"problem_code": "unreadable_file", "problem_detail": detail}
        if isinstance(outcome, Refusal) and not isinstance(outcome, InternalError | NotReady):
            return row | {"problem_code": outcome.code, "problem_detail": outcome.detail}
        raise outcome  # not this image's fault


class _Output:
    """A folder of scores.

    Raises:
        ValueError: It has other files, or scores of another making.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, made_with: tuple[str, str]) -> None:
        self._filesystem, self._path = filesystem, path
        self._waiting: list[pa.Table] = []
        self.added = 0
        filesystem.create_dir(path, recursive=True)
        try:
            found = dataset(path, SCHEMA, "parquet", filesystem).to_table(
                ["id", "model_sha256", "detect"]
            )
        except pa.ArrowException as error:
            raise ValueError(f"{path}: {error}; choose an empty folder") from error
        ids, *makings = found.to_pydict().values()
        if set(zip(*makings, strict=True)) - {made_with}:
            raise ValueError(
                f"{path}: has scores of another model or another --detect; choose an empty folder"
            )
        self.done = set(ids)

    def add(self, table: pa.Table) -> pa.Table:
        """Takes rows, and writes a file when there are enough; returns those not known before."""
        new = table.filter(pa.array([id_ not in self.done for id_ in table["id"].to_pylist()]))
        self.done.update(new["id"].to_pylist())
        self._waiting.append(new)
        self.added += len(new)
        if sum(map(len, self._waiting)) >= ROWS_PER_FILE:
            self.flush()
        return new

    def flush(self) -> None:
        """Writes what waits, under a name that readers pass over until it is whole."""
        if not any(map(len, self._waiting)):
            return
        name = f"scores-{uuid.uuid4().hex}.parquet"
        unfinished = f"{self._path}/.{name}"
        with self._filesystem.open_output_stream(unfinished) as stream:
            parquet.write_table(pa.concat_tables(self._waiting), stream)
        self._filesystem.move(unfinished, f"{self._path}/{name}")
        self._waiting = []


def _score(
    items: list[dict[str, Any]],
    scorer: tuple[Settings, EmotionOptions, fs.FileSystem, int],
    workers: int | None,
    cluster: ClusterSettings,
) -> Iterator[pa.Table]:
    """Yields the rows of the output as they come."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every step
    data.DataContext.get_current().enable_progress_bars = False
    at_a_time = 1 if "column" in items[0] else scorer[-1]
    batches = math.ceil(len(items) / at_a_time)
    workers = workers or max(1, int(ray.cluster_resources()["CPU"] // cluster.replica_cpus))
    scores = data.from_items(items, override_num_blocks=min(batches, MOST_TASKS)).map_batches(
        Scorer,
        fn_constructor_args=scorer,
        batch_size=at_a_time,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=min(workers, batches)),
        num_cpus=cluster.replica_cpus,
        num_gpus=cluster.replica_gpus or None,
    )
    yield from scores.iter_batches(batch_size=None, batch_format="pyarrow")


def _recognizer(
    settings: Settings, options: EmotionOptions
) -> Callable[[list[bytes]], list[Recognition | Exception]]:
    """Starts a recognizer that nobody waits for; returns a function that blocks on its answers."""
    places = max(settings.max_queue, 2 * usable_cpus() * settings.max_faces)
    unhurried = {"request_timeout_ms": A_DAY_MS, "max_queue": places}
    recognizer = Recognizer(settings.model_copy(update=unhurried))
    chosen = cast(RecognizeOptions, options.model_dump(exclude_none=True))
    return lambda images: recognizer.recognize_many(images, **chosen)


def _reference(settings: Settings, name: str) -> ModelReference:
    card = read_card(settings.models_dir, name)
    return ModelReference(name=name, version=card.version, sha256=card.sha256)


def _locate(address: str) -> tuple[fs.FileSystem, str]:
    """Resolves a local path or a URI such as ``s3://bucket/faces``."""
    location = address if "://" in address else str(Path(address).resolve())
    try:
        filesystem, path = fs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: {error}") from error
    return filesystem, path.rstrip("/")


def _find(filesystem: fs.FileSystem, path: str, column: str | None) -> list[dict[str, Any]]:
    """Returns what is to be scored: ``path`` and ``ids`` of each file, or of each row group.

    Of a folder with any Parquet file, only those are read; they have ``column`` and ``group``, too.
    """
    here = filesystem.get_file_info(path)
    if here.type == fs.FileType.NotFound:
        raise ValueError(f"{path}: no such file or folder")
    folder = str(PurePosixPath(path).parent) if here.is_file else path
    below = fs.FileSelector(path, recursive=True)
    found = [here] if here.is_file else filesystem.get_file_info(below)
    files = {info.path.removeprefix(f"{folder}/"): info.path for info in found if info.is_file}
    names = [name for name in sorted(files) if "/." not in f"/{name}"]  # hidden ones are not meant
    in_parquet = [name for name in names if name.endswith(".parquet")]
    if not names:
        raise ValueError(f"{path}: the folder is empty")
    if column and not in_parquet:
        raise ValueError(f"{path}: no Parquet file, so there is no column {column!r}")
    if not in_parquet:
        return [{"path": files[name], "ids": [name]} for name in names]
    column = column or "image"
    return [
        {"path": files[name], "column": column, "group": group, "ids": ids}
        for name in in_parquet
        for group, ids in _row_groups(filesystem, files[name], name, column)
    ]


def _row_groups(
    filesystem: fs.FileSystem, path: str, name: str, column: str
) -> Iterator[tuple[int, list[str]]]:
    """Yields the row groups of a Parquet file: number and ids."""
    try:
        metadata = parquet.read_metadata(path, filesystem=filesystem)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    schema = metadata.schema.to_arrow_schema()
    kind = schema.field(column).type if column in schema.names else None
    if kind and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if kind not in (pa.binary(), pa.large_binary()):
        columns = ", ".join(schema.names)
        raise ValueError(f"{path}: no column {column!r} of images' bytes; it has: {columns}")
    row = 0
    for group in range(metadata.num_row_groups):
        end = row + metadata.row_group(group).num_rows
        yield group, [f"{name}#{number}" for number in range(row, end)]
        row = end
