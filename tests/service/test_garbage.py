"""The garbage collector leaves alone what start-up made, and nothing else."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from service.garbage import leave_out_start_up

class Node:
    def __init__(self):
        self.me = self

leave_out_start_up()
assert len(gc.get_objects()) < 1000, "what start-up made is still looked through"
made = [weakref.ref(Node()) for _ in range(200_000)]
alive = sum(node() is not None for node in made)
assert alive < 30_000, f"{alive} of 200,000 that nobody can reach are still there"
"""


def test_garbage_is_collected_that_was_made_after_start_up() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
