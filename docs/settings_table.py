"""Writes the table of settings in ``operations.md`` from ``ferserve.settings``: ``make docs``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferserve.settings import MEBI, Settings

PAGE = Path(__file__).with_name("operations.md")
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def with_table(page: str) -> str:
    """Returns the page with today's table in place of the one it has."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "".join(f"{line}\n" for line in _table()) + END + after


def _table() -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        default = "" if field.default_factory else _readable(field.default, name)
        yield f"| `{name.upper()}` | {default} | {meaning} |"


def _readable(value: Any, name: str) -> str:
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name.endswith("_bytes"):
        return f"{value // MEBI:,} MiB"
    return f"`{value}`" if isinstance(value, str) or name == "port" else f"{value:,}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
