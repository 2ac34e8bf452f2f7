"""The results in words: a line for each combination as it comes, and tables at the end."""

from typing import Any

from rich.console import Console
from rich.table import Table

Document = dict[str, Any]


def summary(found: dict[str, Any]) -> str:
    """Returns a line about a combination."""
    cells = found["cells"]
    best = max(cells, key=lambda cell: cell["faces_per_second"], default=None)
    words = []
    if best:
        rate, batch = best["faces_per_second"], best["batch"]
        words.append(f"{rate:.0f} faces/s at batch {batch}")
    if "difference" in found:
        words.append(f"differs by {found['difference']['largest']:.1e} from the CPU in float32")
    if failure := found.get("failed"):
        words.append(f"failed: {failure}")
    return "; ".join(words)


def show(document: Document) -> None:
    """Prints all tables."""
    console = Console()
    if not console.is_terminal:  # a file has no width
        console = Console(width=140)
    console.print(f"\n[bold]{document['label']}[/bold]: {document['machine']['card'] or 'no card'}")
    for model, facts in document["models"].items():
        rows = [one for one in document["speed"] if one["model"] == model]
        if rows:
            console.print(_speed(model, facts, rows))
    if document["accuracy"]:
        console.print(_accuracy(document["accuracy"]))
    if document["keras"]:
        console.print(_keras(document["keras"]))
    if document["service"]:
        console.print(_service(document["service"]))
    for part, reason in document["skipped"].items():
        console.print(f"{part}: {reason}", style="dim")


def _speed(model: str, facts: dict[str, Any], rows: list[dict[str, Any]]) -> Table:
    """Faces a second and the median of a call, by batch size; the better number of callers."""
    limits = facts["limit_faces_per_second"]
    limit = ", ".join(f"{name} {rate:,.0f}" for name, rate in limits.items()) or "not known"
    table = Table(
        title=f"{model}: faces/s, median ms of a lone call",
        caption=f"{facts['gflop_per_face']:.2f} GFLOP a face; limit, faces/s: {limit}",
    )
    batches = list(dict.fromkeys(cell["batch"] for one in rows for cell in one["cells"]))
    for name in ("precision", "strategy", *map(str, batches), "memory, MiB", "difference"):
        table.add_column(name, justify="left" if name in ("precision", "strategy") else "right")
    for one in rows:
        if one.get("failed") and not one["cells"]:
            table.add_row(one["precision"], one["strategy"], "failed")
            continue
        table.add_row(
            one["precision"],
            one["strategy"],
            *(_cell(one["cells"], batch) for batch in batches),
            str(one.get("device_memory_mb") or ""),
            f"{one['difference']['largest']:.1e}" if "difference" in one else "",
        )
    return table


def _cell(cells: list[dict[str, Any]], batch: Any) -> str:
    here = [cell for cell in cells if cell["batch"] == batch]
    if not here:
        return ""
    rate = max(cell["faces_per_second"] for cell in here)
    alone = next((cell["p50_ms"] for cell in here if cell["callers"] == 1), float("nan"))
    return f"{rate:,.0f}\n{alone:.2f} ms"


def _accuracy(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "precision", "n", "accuracy", "same answer", "largest difference")
    table.title = "Test faces, against the CPU in float32"
    for one in rows:
        if "failed" in one:
            table.add_row(one["model"], one["precision"], "failed")
            continue
        table.add_row(
            one["model"],
            one["precision"],
            str(one["n"]),
            f"{one['accuracy']:.4f}",
            f"{one['same_as_cpu_float32']:.4f}",
            f"{one['largest_difference']:.1e}",
        )
    return table


def _keras(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "precision", "backend", "batch", "faces/s", "ms", title="Keras")
    for one in rows:
        for cell in one["cells"]:
            table.add_row(
                one["model"],
                one["precision"],
                f"{cell['backend']}, {cell['device']}",
                str(cell["batch"]),
                f"{cell['faces_per_second']:,.0f}",
                f"{cell['p50_ms']:.2f}",
            )
        if "failed" in one:
            table.add_row(one["model"], one["precision"], "failed")
    return table


def _service(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "clients", "faces/s", "bare faces/s", "share", title="The service")
    for one in rows:
        if "failed" in one:
            table.add_row(one["model"], "failed")
            continue
        table.add_row(
            one["model"],
            str(one["clients"]),
            f"{one['faces_per_second']:,.0f}",
            f"{one['bare']['faces_per_second']:,.0f} ({one['bare']['strategy']})",
            f"{one['share_of_bare']:.2f}",
        )
    return table
