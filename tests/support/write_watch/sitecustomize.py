"""Makes a Python process unable to write a file, and tell of every try.

Put this folder on ``PYTHONPATH``, and the number of an open descriptor in ``WRITE_WATCH``.

The kernel sees to the first: with a limit of 0 bytes on files it ends the process with SIGXFSZ at
any write to a regular file, from C code too (Python would have ignored the signal). Pipes and
sockets are not limited. An audit hook tells of what was opened, made or removed from Python.
"""

import os
import resource
import signal
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.link", "os.mkdir", "os.mkfifo", "os.remove", "os.rename", "os.rmdir", "os.symlink",
    "os.truncate", "sqlite3.connect", "tempfile.mkdtemp", "tempfile.mkstemp",
}  # fmt: skip
DESCRIPTOR = int(os.environ["WRITE_WATCH"])


def watch(event: str, arguments: tuple) -> None:
    if event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING):
        os.write(DESCRIPTOR, f"{event} {arguments!r}\n".encode())


resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
sys.addaudithook(watch)
