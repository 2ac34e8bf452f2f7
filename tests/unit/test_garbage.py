"""The garbage collector leaves alone what start-up made; free memory goes back, or is kept."""

import gc
import platform
import subprocess
import sys

import pytest
import uvicorn
from ferserve.api import server
from ferserve.garbage import YOUNG_OBJECTS

PROGRAM = """
import gc, weakref
from ferserve.garbage import YOUNG_OBJECTS, leave_out_start_up

class Node:
    def __init__(self):
        self.me = self

leave_out_start_up()
assert len(gc.get_objects()) < 1000, "what start-up made is still looked through"
assert gc.get_threshold()[0] == YOUNG_OBJECTS
made = [weakref.ref(Node()) for _ in range(200_000)]
alive = sum(node() is not None for node in made)
assert alive < 30_000, f"{alive} of 200,000 that nobody can reach are still there"
"""

RESIDENT = """
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
"""

START_UP = (
    RESIDENT
    + """
from ferserve.garbage import leave_out_start_up

blocks = [bytearray(b"x" * 50_000) for _ in range(2000)]
kept = blocks[::20]
del blocks
before = resident()
leave_out_start_up()
assert before - resident() > 80_000, f"only {before - resident()} kB went back"
"""
)

LARGE_BLOCKS = (
    RESIDENT
    + """
from ferserve.garbage import give_back_large_blocks

give_back_large_blocks()
bytearray(8_000_000)  # from which malloc would learn to keep blocks of this size
before = resident()
blocks = [(bytearray(b"x" * 6_000_000), bytearray(100_000)) for _ in range(20)]
small = [pair[1] for pair in blocks]
del blocks
assert resident() - before < 20_000, f"{resident() - before} kB are kept"
"""
)

FREED_BLOCKS = """
import resource
from ferserve.garbage import keep_freed_blocks

def pages_got():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_blocks()
for _ in range(3):
    before = pages_got()
    bytearray(b"x" * 100_000_000)
assert pages_got() - before < 1000, f"{pages_got() - before} pages were got again"
"""


def test_garbage_is_collected_that_was_made_after_start_up():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
@pytest.mark.parametrize(
    "program",
    [START_UP, LARGE_BLOCKS, FREED_BLOCKS],
    ids=["start-up goes", "large blocks go", "in a training blocks stay"],
)
def test_free_memory_goes_back_to_the_system_or_stays(program):
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


async def test_a_server_leaves_out_its_start_up_once_it_listens(monkeypatch):
    async def app(_scope, _receive, _send):
        raise AssertionError("nobody asks")

    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    config.load()
    starting = server.DrainingServer(config, begin_drain=lambda: None, notice=0.0)
    starting.lifespan = config.lifespan_class(config)
    listening = []
    monkeypatch.setattr(server, "leave_out_start_up", lambda: listening.append(starting.started))
    await starting.startup()
    await starting.shutdown()
    assert listening == [True]
    assert gc.get_threshold()[0] < YOUNG_OBJECTS, "the tests' own process"
