"""The result file: written whenever something is known, so that nothing measured is lost."""

import json
import sys
from pathlib import Path
from typing import Any

PARTS = ("speed", "accuracy", "keras", "service")


class Results:
    """What is known so far.

    Attributes:
        path: The JSON file.
        document: Its content.
    """

    def __init__(self, path: Path, head: dict[str, Any], *, resume: bool) -> None:
        """Begins anew, or goes on with a file.

        Args:
            path: The file.
            head: What the results depend on.
            resume: Keep what the file has; where it is of another machine, version or method the
                program ends.
        """
        self.path = path
        fresh = {**head, "models": {}, "met": {}, "skipped": {}, **{part: [] for part in PARTS}}
        self.document = fresh
        if resume and path.exists():
            self.document = json.loads(path.read_text(encoding="utf-8"))
            for name in set(head) - {"date"}:
                if self.document[name] != head[name]:
                    sys.exit(f"{path}: its {name} is another; without --resume it is overwritten")
            for part in PARTS:  # what failed is tried again
                self.document[part] = [x for x in self.document[part] if "failed" not in x]

    def has(self, part: str, key: dict[str, str]) -> bool:
        """Whether something was measured, or failed in this run."""
        return any(key.items() <= one.items() for one in self.document[part])

    def add(self, part: str, found: dict[str, Any]) -> None:
        """Adds what was measured."""
        self.document[part].append(found)
        self.document["skipped"].pop(part, None)
        self.write()

    def skip(self, part: str, reason: str) -> None:
        """Says why a part is missing, or is not complete."""
        self.document["skipped"][part] = reason
        self.write()
        print(f"{part}: {reason}")  # noqa: T201 - helps a script that talks to people

    def best(self, model: str, precision: str) -> dict[str, Any] | None:
        """Returns the strategy, batch size and callers with the most faces a second."""
        found = [
            {"strategy": one["strategy"], **cell}
            for one in self.document["speed"]
            if (one["model"], one["precision"]) == (model, precision)
            for cell in one["cells"]
        ]
        return max(found, key=lambda cell: cell["faces_per_second"], default=None)

    def write(self) -> None:
        """Writes the file, all of it or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.document, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.path)
