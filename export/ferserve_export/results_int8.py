"""What computing in int8 does to the models, for docs/results.md."""

from pathlib import Path

from ferserve.bundle import read_int8_card
from ferserve.card import ModelCard

SPLITS = ("all", "private", "leak_free")

NOTE = """\
With `FERSERVE_PRECISION=int8` convolutions compute in int8, on the CPU. The ranges of values that
they are prepared for are those of {images} Training images, drawn at random. *Same*: of all test
images, those whose most probable emotion stays what it was. `ferserve quantize MODEL --data
fer2013.zip` measures it anew ([how it works](training.md#int8)); how much faster it is stands in
[performance](performance.md#what-the-cpu-path-was-chosen-from)."""


def section(models: Path, cards: list[ModelCard], titles: dict[str, str]) -> list[str]:
    """Returns the section, if any model was measured in int8; else none.

    Args:
        models: Folder of the models.
        cards: Of the models.
        titles: Of the models, by name; of splits, too.

    Raises:
        ModelError: An int8 card is of another file than its model's card.
    """
    rows, images = [], set()
    for card in cards:
        if not (models / "int8" / f"{card.name}.json").exists():
            continue
        fast = read_int8_card(models, card)
        if fast.ranges:
            images.add(f"{fast.images:,}")
        pairs = [
            f"{100 * metrics[split].accuracy:.2f}"
            for split in SPLITS
            for metrics in (card.metrics, fast.metrics)
        ]
        pairs += [f"{metrics['all'].ece:.3f}" for metrics in (card.metrics, fast.metrics)]
        rows.append(f"| {titles[card.name]} | {' | '.join(pairs)} | {100 * fast.same_answer:.1f} |")
    if not rows:
        return []
    heads = [f"{titles[split]}, float32 | int8" for split in SPLITS]
    table = [f"| % | {' | '.join(heads)} | ECE all, float32 | int8 | same |", "|---|" + "---|" * 9]
    note = NOTE.format(images=" or ".join(sorted(images)))
    return ["## In int8\n\n" + "\n".join([*table, *rows]) + "\n\n" + note]
