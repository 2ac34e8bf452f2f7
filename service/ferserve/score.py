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
from typing import Any

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
from ferserve.schemas import DetectMode, Recognition
from ferserve.serving import default_name, load_detector, served_names
from ferserve.settings import ClusterSettings, Settings

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
    dict.fromkeys(("id", "status", "problem_code", "problem_detail"), pa.string())
    | {"faces": pa.list_(_FACE)}
    | dict.fromkeys(("detect", "model_name", "model_version", "model_sha256"), pa.string())
)
"""A row an image. ``status`` is ``ok`` or ``problem``; ``faces`` is null where there is a problem
and empty where there is no face; boxes are as in the API."""

ROWS_PER_FILE = 1000
"""What is not in a file yet is done again by the next run."""

MOST_TASKS = 10_000
"""Of a run, whatever its size: Ray keeps account of each."""

IMAGES_AT_A_TIME = 32
"""That a worker answers."""

READERS = 16
"""Files that a worker reads at a time: an object store takes its time for each."""

UNHURRIED = {"request_timeout_ms": 86_400_000, "max_queue": 10_000}
"""Settings where nobody waits for an answer."""


def score(
    source: str,
    target: str,
    settings: Settings,
    cluster: ClusterSettings,
    progress: Callable[[int, int], object],
    *,
    detect: DetectMode = "auto",
    column: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Scores with the default model what has not been scored; starts Ray where it does not run.

    Args:
        source: A local path or a URI: a folder of images or of Parquet files, or one file.
        target: A folder, likewise.
        settings: Of the service.
        cluster: What a worker computes on.
        progress: Is told how many of all images are done.
        detect: As for one image of the API.
        column: Of the images in Parquet, by default ``image``.
        workers: How many; by default as many as there are processors for.

    Raises:
        ValueError: The input or the output cannot be used.
        ModelError: The model cannot be served.
    """
    name = default_name(settings, served_names(settings))
    load_detector(settings)  # better a clear word here than a dead worker there
    settings = cluster.for_replica(settings).model_copy(update={"models": (name,)} | UNHURRIED)
    card = read_card(settings.models_dir, name)
    model = {"name": name, "version": card.version, "sha256": card.sha256}
    made_with = {f"model_{key}": value for key, value in model.items()} | {"detect": detect}
    filesystem, path = _locate(source)
    items = list(_find(filesystem, path, column))
    output = _locate(target)
    if PurePosixPath(output[1]).is_relative_to(path):
        raise ValueError(f"{target}: is inside of the input")
    done = _scored_ids(*output, made_with)
    left = [item for item in items if not done.issuperset(item["ids"])]
    total = sum(len(item["ids"]) for item in items)
    skipped = sum(id_ in done for item in items for id_ in item["ids"])
    scored, faces, problems = 0, 0, Counter[str]()
    progress(skipped, total)
    for table in _rows(left, workers, cluster, settings, made_with, filesystem) if left else ():
        new = table.filter(pa.array([id_ not in done for id_ in table["id"].to_pylist()]))
        _write(*output, new)
        done.update(new["id"].to_pylist())
        scored += len(new)
        faces += sum(map(len, filter(None, new["faces"].to_pylist())))
        problems.update(filter(None, new["problem_code"].to_pylist()))
        progress(skipped + scored, total)
    return {
        "model": model,
        "total": total,
        "skipped": skipped,
        "scored": scored,
        "faces": faces,
        "problems": dict(problems.most_common()),
    }


def _rows(
    items: list[dict[str, Any]], workers: int | None, cluster: ClusterSettings, *scorer: Any
) -> Iterator[pa.Table]:
    """Yields the rows of the output as they come, as many as a file has."""
    if not ray.is_initialized():
        start_ray((workers or 1) * cluster.replica_cpus)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every step
    data.DataContext.get_current().enable_progress_bars = False
    at_a_time = 1 if "column" in items[0] else IMAGES_AT_A_TIME
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
    yield from scores.iter_batches(batch_size=ROWS_PER_FILE, batch_format="pyarrow")


class Scorer:
    """Reads and scores images, in a worker of Ray Data."""

    def __init__(
        self, settings: Settings, made_with: dict[str, Any], filesystem: fs.FileSystem
    ) -> None:
        logs.configure(settings.log_format)
        self._recognizer = Recognizer(settings)
        self._made_with = made_with
        self._filesystem = filesystem
        self._max_bytes = settings.max_upload_bytes
        self._threads = ThreadPoolExecutor(READERS)

    def __call__(self, items: pa.Table) -> Iterator[pa.Table]:
        """Scores the images of items as ``_find`` returns them: yields rows of ``SCHEMA``."""
        for ids, images in self._images(items.to_pylist()):
            files = [image for image in images if isinstance(image, bytes)]
            answers = iter(self._recognizer.recognize_many(files, detect=self._made_with["detect"]))
            outcomes = [next(answers) if isinstance(image, bytes) else image for image in images]
            yield pa.Table.from_pylist(list(map(self._row, ids, outcomes)), SCHEMA)

    def _images(
        self, items: list[dict[str, Any]]
    ) -> Iterator[tuple[list[str], list[bytes | Exception]]]:
        if "column" not in items[0]:
            files = self._threads.map(self._read, [item["path"] for item in items])
            yield [item["ids"][0] for item in items], list(files)
            return
        for item in items:
            ids = iter(item["ids"])
            with self._filesystem.open_input_file(item["path"]) as source:
                for batch in parquet.ParquetFile(source).iter_batches(
                    IMAGES_AT_A_TIME, row_groups=[item["group"]], columns=[item["column"]]
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
            return Refusal(error.strerror or str(error), code="unreadable_file")

    def _row(self, id_: str, outcome: Recognition | Exception) -> dict[str, Any]:
        row = {"id": id_, "status": "ok"} | self._made_with
        if isinstance(outcome, Recognition):
            return row | {"faces": [face.model_dump() for face in outcome.faces]}
        if isinstance(outcome, Refusal) and not isinstance(outcome, InternalError | NotReady):
            problem = {"problem_code": outcome.code, "problem_detail": outcome.detail}
            return row | {"status": "problem"} | problem
        raise outcome  # not this image's fault


def _scored_ids(filesystem: fs.FileSystem, path: str, made_with: dict[str, Any]) -> set[str]:
    """Returns the ids of the rows that a folder has; makes it where it is not there."""
    filesystem.create_dir(path, recursive=True)
    try:
        rows = dataset(path, SCHEMA, "parquet", filesystem).to_table(["id", *made_with])
    except pa.ArrowException as error:
        raise ValueError(f"{path}: {error}; choose an empty folder") from error
    ids, *makings = rows.to_pydict().values()
    if set(zip(*makings, strict=True)) - {tuple(made_with.values())}:
        raise ValueError(
            f"{path}: has scores of another model or another --detect; choose an empty folder"
        )
    return set(ids)


def _write(filesystem: fs.FileSystem, path: str, table: pa.Table) -> None:
    name = f"scores-{uuid.uuid4().hex}.parquet"
    # Readers pass over names that begin with a dot: it is whole when they see it.
    with filesystem.open_output_stream(f"{path}/.{name}") as stream:
        parquet.write_table(table, stream)
    filesystem.move(f"{path}/.{name}", f"{path}/{name}")


def _locate(address: str) -> tuple[fs.FileSystem, str]:
    location = address if "://" in address else str(Path(address).resolve())
    try:
        filesystem, path = fs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: {error}") from error
    return filesystem, path.rstrip("/")


def _find(filesystem: fs.FileSystem, path: str, column: str | None) -> Iterator[dict[str, Any]]:
    """Yields what is to be scored: ``path`` and ``ids`` of each file, or of each row group.

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
        yield from ({"path": files[name], "ids": [name]} for name in names)
    for name in in_parquet:
        place = {"path": files[name], "column": column or "image"}
        row = 0
        for group, rows in enumerate(_row_groups(filesystem, **place)):
            ids = [f"{name}#{number}" for number in range(row, row + rows)]
            yield place | {"group": group, "ids": ids}
            row += rows


def _row_groups(filesystem: fs.FileSystem, path: str, column: str) -> list[int]:
    """Returns the number of rows of each row group of a Parquet file."""
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
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
