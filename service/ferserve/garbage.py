"""What becomes of memory that is not used any more."""

import contextlib
import ctypes
import gc

YOUNG_OBJECTS = 20_000
"""The collector runs again once this many objects have been added since its last run. With many
requests under way Python's own 700 are reached all the time, though next to nothing is garbage."""

LARGE_BLOCK = 4 * 1024 * 1024
"""Bytes of a block that goes back to the system at once; ordinary photos take smaller ones."""

M_MXFAST, M_MMAP_THRESHOLD = 1, -3
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Of ``malloc.h``."""


def give_back_large_blocks() -> None:
    """Has freed blocks of large pictures and uploads leave the process.

    glibc would learn from the first of them to keep blocks of up to 32 MB, and then hold over
    100 MB after a single picture. It would not coalesce small freed blocks at once, and never
    gives back those that another thread coalesces later: 28 MB after half a million long numbers.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        library.mallopt(M_MXFAST, 0)


def keep_freed_blocks() -> None:
    """Has freed blocks stay with the process, for work that soon takes blocks of their size again.

    glibc would get each block of over 32 MB from the system and give it back at once, and the
    system clears each of its pages: with torch, a training step at 224 pixels spent most of its
    time on that.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)  # never
        library.mallopt(M_TOP_PAD, 64 * LARGE_BLOCK)
        library.mallopt(M_ARENA_MAX, 1)  # those of threads cannot hold large blocks


def give_back_free_pages() -> None:
    """Has glibc give back what is free between blocks that are in use: a body that grew there.

    What a refused request was read into is garbage that only the collector finds, as the traceback
    of its refusal holds it; on its own the collector might run much later.
    """
    gc.collect()  # some milliseconds, as it leaves out what there was at the start
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def leave_out_start_up() -> None:
    """Exempts all that there is from later collections; to be called once, after the start."""
    give_back_free_pages()  # loading models leaves many
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
