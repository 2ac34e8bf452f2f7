"""The scores as Parquet: a folder that only ever gains whole files, so that a run can go on."""

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

import pyarrow as pa
from pyarrow import parquet

from ferserve.fer2013.labels import EMOTIONS
from ferserve.schemas import ModelReference
from ferserve.score.places import Place, PlaceError

_BOX = pa.struct([(name, pa.int32()) for name in ("x", "y", "width", "height")])
_FACE = pa.struct(
    [
        ("box", _BOX),
        ("face_confidence", pa.float32()),
        ("dominant_emotion", pa.string()),
        ("confidence", pa.float32()),
        ("emotions", pa.struct([(emotion, pa.float32()) for emotion in EMOTIONS])),
        ("warnings", pa.list_(pa.string())),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("status", pa.string()),
        ("problem_code", pa.string()),
        ("problem_detail", pa.string()),
        ("faces", pa.list_(_FACE)),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_sha256", pa.string()),
    ]
)
"""A row an image. ``status`` is ``ok`` or ``problem``; ``faces`` is null where there is a problem
and empty where there is no face; boxes are as in the API."""

OK, PROBLEM = "ok", "problem"

MADE_WITH = b"ferserve"
"""Key of the files' metadata that says what they were made with."""

ROWS_PER_FILE = 10_000
SECONDS_PER_FILE = 30.0
"""Whichever comes first: what is not in a file is done again by the next run."""


@dataclass
class Tally:
    """What became of the images of a run."""

    images: int = 0
    faces: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Counts the rows."""
        self.images += len(table)
        self.faces += len(table["faces"].combine_chunks().flatten())
        self.problems.update(code for code in table["problem_code"].to_pylist() if code)


class Output:
    """A folder of scores.

    Args:
        place: The folder; made where there is none.
        model: What scores.
        detect: Whether faces are looked for; as in the API.

    Raises:
        PlaceError: The folder has scores that were made with something else, or other files.
    """

    def __init__(self, place: Place, model: ModelReference, detect: str) -> None:
        self._place = place
        self._made_with = json.dumps({"model": model.model_dump(), "detect": detect}).encode()
        self._schema = SCHEMA.with_metadata({MADE_WITH: self._made_with})
        self._waiting: list[pa.Table] = []
        self._last_file = monotonic()
        place.filesystem.create_dir(place.path, recursive=True)
        self.done = self._read_done()

    def add(self, table: pa.Table) -> pa.Table:
        """Takes rows, and writes a file when there are enough; returns those not known before."""
        new = table.filter(pa.array([id_ not in self.done for id_ in table["id"].to_pylist()]))
        self.done.update(new["id"].to_pylist())
        self._waiting.append(new)
        late = monotonic() - self._last_file > SECONDS_PER_FILE
        if late or sum(map(len, self._waiting)) >= ROWS_PER_FILE:
            self.flush()
        return new

    def flush(self) -> None:
        """Writes what waits, under a name that readers pass over until it is whole."""
        table = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        self._waiting, self._last_file = [], monotonic()
        if not len(table):
            return
        name = f"scores-{uuid.uuid4().hex}.parquet"
        unfinished, finished = self._place.at(f".{name}"), self._place.at(name)
        with self._place.filesystem.open_output_stream(unfinished) as stream:
            parquet.write_table(table.replace_schema_metadata(self._schema.metadata), stream)
        self._place.filesystem.move(unfinished, finished)

    def _read_done(self) -> set[str]:
        done: set[str] = set()
        for name in self._place.files():
            path = self._place.at(name)
            try:
                with self._place.filesystem.open_input_file(path) as source:
                    file = parquet.ParquetFile(source)
                    made_with = (file.schema_arrow.metadata or {}).get(MADE_WITH)
                    if made_with == self._made_with:
                        done.update(file.read(["id"])["id"].to_pylist())
                        continue
            except pa.ArrowException:
                made_with = None
            if made_with is None:
                raise PlaceError(f"{path}: is not of ferserve score; choose an empty folder")
            raise PlaceError(
                f"{path}: was made with {made_with.decode()}, now it is "
                f"{self._made_with.decode()}; choose an empty folder"
            )
        return done
