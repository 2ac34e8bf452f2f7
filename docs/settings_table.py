"""Writes the tables of settings in ``docs`` from ``ferserve.settings``: ``make docs``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferserve.settings import MEBI, ClusterSettings, Settings

PAGES = {"operations.md": Settings, "cluster.md": ClusterSettings}
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def with_table(page: str, settings: type[Settings | ClusterSettings]) -> str:
    """Returns the page with today's table in place of the one it has."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "".join(f"{line}\n" for line in _table(settings)) + END + after


def _table(settings: type[Settings | ClusterSettings]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in settings.model_fields.items():
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
    return f"`{value}`" if isinstance(value, str) or name.endswith("port") else f"{value:,}"


if __name__ == "__main__":
    for name, settings in PAGES.items():
        page = Path(__file__).with_name(name)
        page.write_text(with_table(page.read_text(encoding="utf-8"), settings), encoding="utf-8")
