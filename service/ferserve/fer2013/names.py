"""What the names of files and folders in a data set say."""

from pathlib import PurePosixPath

from ferserve.fer2013.labels import EMOTIONS

LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
"""What desktops leave behind under a name that does not begin with a dot; in lower case."""


def is_litter(name: str) -> bool:
    """Whether a tool put the file there: hidden files and folders, resource forks, thumbnails."""
    return any(
        part.lower() in LITTER or (part.startswith(".") and part != "..")
        for part in PurePosixPath(name).parts
    )


def emotion_label(folder: str) -> int | None:
    """The label that a folder's name stands for, in any letter case; None for another name."""
    emotion = folder.lower()
    return EMOTIONS.index(emotion) if emotion in EMOTIONS else None
