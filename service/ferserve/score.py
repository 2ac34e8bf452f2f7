"""``ferserve score``: many images, in files or in Parquet, on Ray Data; extra ``cluster``.

The output is a folder of Parquet files that only ever gains whole files, so that a run can go on
where the last one ended.
"""

import logging
import math
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import ray
from pyarrow import fs, parquet
from pyarrow.dataset import ParquetFileFormat, ParquetFileFragment, dataset, field
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
    | dict.fromkeys(("input", "column", "detect"), pa.string())
    | dict.fromkeys(("model_name", "model_version", "model_sha256"), pa.string())
)
"""A row an image. ``status`` is ``ok`` or ``problem``; ``faces`` is null where there is a problem
and empty where there is no face; boxes are as in the API."""

ROWS_PER_FILE = 1000
"""What is not in a file yet is done again by the next run."""

IMAGES_AT_A_TIME = 32
"""Images that a worker answers at once."""


def score(
    source: str,
    target: str,
    settings: Settings,
    cluster: ClusterSettings,
    progress: Callable[[int, int], object],
    *,
    detect: DetectMode = "auto",
    column: str = "image",
    workers: int | None = None,
) -> dict[str, Any]:
    """Scores with the default model what has not been scored; starts Ray where it does not run.

    ``source``, a folder of images or of Parquet files or one file, and ``target``, a folder, are
    local paths or URIs. ``column`` holds the images in Parquet. ``progress`` is told how many of
    all images are done. By default there are as many workers as the processors allow.

    Raises ValueError or OSError where input or output cannot be used, ModelError where the model
    cannot.
    """
    name = default_name(settings, served_names(settings))
    load_detector(settings)  # better a clear word here than a dead worker there
    settings = cluster.for_replica(settings.unhurried()).model_copy(update={"models": (name,)})
    card = read_card(settings.models_dir, name)
    model = {"name": name, "version": card.version, "sha256": card.sha256}
    filesystem, path = _locate(source)
    made_with = {"input": path, "column": column, "detect": detect}
    made_with |= {f"model_{key}": value for key, value in model.items()}
    items = list(_find(filesystem, path, column))
    output = _locate(target)
    if PurePosixPath(output[1]).is_relative_to(path):
        raise ValueError(f"{target}: is inside the input")
    done = _scored_ids(*output, made_with)
    left = [item for item in items if not done.issuperset(item["ids"])]
    ids = {id_ for item in items for id_ in item["ids"]}
    counts = {"total": len(ids), "skipped": len(ids & done), "scored": 0, "faces": 0}
    problems = Counter[str]()
    progress(counts["skipped"], counts["total"])
    for table in _rows(left, workers, cluster, settings, made_with, filesystem):
        new = table.filter(pa.array([id_ not in done for id_ in table["id"].to_pylist()]))
        _write(*output, new)
        done.update(new["id"].to_pylist())
        counts["scored"] += len(new)
        counts["faces"] += sum(map(len, filter(None, new["faces"].to_pylist())))
        problems.update(filter(None, new["problem_code"].to_pylist()))
        progress(counts["skipped"] + counts["scored"], counts["total"])
    return {"model": model, **counts, "problems": dict(problems.most_common())}


def _rows(
    items: list[dict[str, Any]], workers: int | None, cluster: ClusterSettings, *scorer: Any
) -> Iterator[pa.Table]:
    """Yields the rows of the output as they come, as many as a file has."""
    if not items:
        return
    if not ray.is_initialized():
        start_ray((workers or 1) * cluster.replica_cpus)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every step
    data.DataContext.get_current().enable_progress_bars = False
    at_a_time = 1 if "group" in items[0] else IMAGES_AT_A_TIME
    blocks = min(math.ceil(len(items) / at_a_time), 10_000)  # Ray keeps account of each
    workers = workers or max(1, int(ray.cluster_resources()["CPU"] // cluster.replica_cpus))
    scores = data.from_items(items, override_num_blocks=blocks).map_batches(
        Scorer,
        fn_constructor_args=scorer,
        batch_size=at_a_time,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=min(workers, blocks)),
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
        self._threads = ThreadPoolExecutor()  # an object store takes its time for each file

    def __call__(self, items: pa.Table) -> Iterator[pa.Table]:
        """Scores files, or one row group, as ``_find`` returns them: yields rows of ``SCHEMA``."""
        ids = chain.from_iterable(items["ids"].to_pylist())
        if "group" not in items.column_names:
            yield self._rows(ids, items["path"].to_pylist())
            return
        (item,) = items.to_pylist()
        group = ParquetFileFormat().make_fragment(
            item["path"], self._filesystem, row_groups=[item["group"]]
        )
        columns = {"image": field(*item["place"])}
        for batch in group.to_batches(columns=columns, batch_size=IMAGES_AT_A_TIME):
            yield self._rows(islice(ids, len(batch)), batch["image"].to_pylist())

    def _rows(self, ids: Iterable[str], images: list[Any]) -> pa.Table:
        contents = list(self._threads.map(self._contents, images))
        files = [one for one in contents if isinstance(one, bytes)]
        answers = iter(self._recognizer.recognize_many(files, detect=self._made_with["detect"]))
        outcomes = [next(answers) if isinstance(one, bytes) else one for one in contents]
        return pa.Table.from_pylist(list(map(self._row, ids, outcomes)), SCHEMA)

    def _contents(self, image: str | bytes | None) -> bytes | Refusal:
        if not isinstance(image, str):
            return image or b""
        try:
            with self._filesystem.open_input_file(image) as source:
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
    rows = dataset(path, SCHEMA, "parquet", filesystem).to_table(["id", *made_with])
    ids, *makings = rows.to_pydict().values()
    if set(zip(*makings, strict=True)) - {tuple(made_with.values())}:
        raise ValueError(
            f"{path}: has scores of another input, --column, --detect or model; "
            "choose an empty folder"
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
    filesystem, path = fs.FileSystem.from_uri(location)
    return filesystem, path.rstrip("/")


def _find(filesystem: fs.FileSystem, path: str, column: str) -> Iterator[dict[str, Any]]:
    """Yields what is to be scored: ``path`` and ``ids`` of each file, or of each row group.

    Of a folder with any Parquet file, only those are read; they have ``group`` and ``place``, too.
    """
    if filesystem.get_file_info(path).type == fs.FileType.NotFound:
        raise ValueError(f"{path}: no such file or folder")
    files = dataset(path, pa.schema([]), "parquet", filesystem, ignore_prefixes=["."])
    folder = str(PurePosixPath(path).parent) if files.files == [path] else path
    fragments = {file.path.removeprefix(f"{folder}/"): file for file in files.get_fragments()}
    in_parquet = [name for name in fragments if name.endswith(".parquet")]
    if not in_parquet:
        yield from ({"path": file.path, "ids": [name]} for name, file in fragments.items())
    for name in in_parquet:
        file, rows = fragments[name], count()
        place = _place(file, column)
        for group in file.row_groups:
            ids = [f"{name}#{row}" for row in islice(rows, group.num_rows)]
            yield {"path": file.path, "ids": ids, "group": group.id, "place": place}


def _place(file: ParquetFileFragment, column: str) -> list[str]:
    """Returns where the bytes of images are: in a column, or in the field ``bytes`` of a struct."""
    columns = file.physical_schema.empty_table()
    kinds = {kind.name: kind.type for kind in columns.flatten().schema}
    place = [column, "bytes"] if f"{column}.bytes" in kinds else [column]
    if kinds.get(".".join(place)) not in (pa.binary(), pa.large_binary()):
        names = ", ".join(columns.column_names)
        raise ValueError(f"{file.path}: no column {column!r} of images' bytes; it has: {names}")
    return place
