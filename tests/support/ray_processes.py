"""The processes that Ray started below this one, found by the title it gives them."""

import os
from pathlib import Path


def with_title(part: str) -> list[int]:
    """Returns the ids of those whose title contains ``part``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if title.startswith("ray::") and part in title and _is_below_us(int(folder.name)):
            found.append(int(folder.name))
    return found


def _is_below_us(process: int) -> bool:
    while process > 1:
        if process == os.getpid():
            return True
        try:
            # After the name, which is in brackets and may hold anything: state, parent.
            rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
        process = int(rest.split()[1])
    return False
