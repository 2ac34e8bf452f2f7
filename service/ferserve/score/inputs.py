"""What is to be scored: the files of a folder, or the rows of Parquet files."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
from pyarrow import parquet

from ferserve.score.places import Place, PlaceError

DEFAULT_COLUMN = "image"


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        items: A row for each thing to read.
        images: Number of images in them that have not been scored.
    """

    items: pa.Table
    images: int


@dataclass(frozen=True)
class Files:
    """Every file is an image, or ought to be; its path relative to the place is its id."""

    place: Place
    names: list[str]

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.names)

    def work(self, done: Collection[str]) -> Work:
        """Returns what is left to do, an item an image: ``id`` and ``path``."""
        left = [name for name in self.names if self._id(name) not in done]
        items = {
            "id": pa.array([self._id(name) for name in left], pa.string()),
            "path": pa.array([self.place.at(name) for name in left], pa.string()),
        }
        return Work(pa.table(items), len(left))

    def _id(self, name: str) -> str:
        return name or PurePosixPath(self.place.path).name


@dataclass(frozen=True)
class Rows:
    """Every row of some Parquet files has an image; ``file#row`` is its id.

    Attributes:
        place: Where the files are.
        groups: By name of the file, how many rows each of its row groups has.
        column: Holds the images: bytes, or a struct with ``bytes``.
    """

    place: Place
    groups: dict[str, list[int]]
    column: str

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(sum(counts) for counts in self.groups.values())

    def work(self, done: Collection[str]) -> Work:
        """Returns what is left to do, an item a row group: ``file``, ``group``, ``first`` row."""
        items: list[dict[str, object]] = []
        images = 0
        for name, counts in self.groups.items():
            first = 0
            for group, count in enumerate(counts):
                rows = range(first, first + count)
                left = sum(self._id(name, row) not in done for row in rows)
                if left:
                    items.append({"file": name, "group": group, "first": first})
                first += count
                images += left
        schema = pa.schema([("file", pa.string()), ("group", pa.int64()), ("first", pa.int64())])
        return Work(pa.Table.from_pylist(items, schema), images)

    def read(self, items: pa.Table, done: Collection[str], rows: int) -> Iterator[pa.Table]:
        """Reads row groups piece by piece.

        Args:
            items: Some of ``work``.
            done: Ids to leave out.
            rows: Most rows a piece.

        Yields:
            Tables of ``id`` and ``image``.
        """
        for item in items.to_pylist():
            first = item["first"]
            with self.place.filesystem.open_input_file(self.place.at(item["file"])) as source:
                for piece in parquet.ParquetFile(source).iter_batches(
                    rows, row_groups=[item["group"]], columns=[self.column]
                ):
                    table = self._table(piece.column(0), item["file"], first)
                    first += len(table)
                    yield table.filter(pa.array([id_.as_py() not in done for id_ in table["id"]]))

    def _table(self, images: pa.Array, name: str, first: int) -> pa.Table:
        if pa.types.is_struct(images.type):
            images = images.field("bytes")
        ids = [self._id(name, first + offset) for offset in range(len(images))]
        return pa.table({"id": pa.array(ids, pa.string()), "image": images.cast(pa.large_binary())})

    def _id(self, name: str, row: int) -> str:
        return f"{name or PurePosixPath(self.place.path).name}#{row}"


def find(address: str, column: str | None) -> Files | Rows:
    """Looks at what is to be scored.

    Args:
        address: A local path or a URI: a folder of images or of Parquet files, or one file.
        column: Of the images in Parquet. Where there is any Parquet file, only those are read.

    Raises:
        PlaceError: There is nothing to score, or not in that column.
    """
    place = Place.of(address)
    names = place.files()
    in_parquet = [name for name in names if place.at(name).endswith(".parquet")]
    if in_parquet:
        return _rows(place, in_parquet, column or DEFAULT_COLUMN)
    if column:
        raise PlaceError(f"{address}: no Parquet file, so there is no column {column!r}")
    if not names:
        raise PlaceError(f"{address}: the folder is empty")
    return Files(place, names)


def _rows(place: Place, names: list[str], column: str) -> Rows:
    groups = {}
    for name in names:
        path = place.at(name)
        try:
            with place.filesystem.open_input_file(path) as source:
                file = parquet.ParquetFile(source)
                metadata, schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise PlaceError(f"{path}: {error}") from error
        if column not in schema.names:
            raise PlaceError(
                f"{path}: has no column {column!r}; its columns are: {', '.join(schema.names)}"
            )
        kind = schema.field(column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise PlaceError(f"{path}: column {column!r} holds {kind}, not the bytes of images")
        groups[name] = [
            metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)
        ]
    return Rows(place, groups, column)
