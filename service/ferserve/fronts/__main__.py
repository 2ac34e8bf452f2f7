"""``python -m ferserve.fronts``: the process of a front; only the supervisor starts it."""

import sys

from ferserve.fronts.front import run

channel, memory, *listeners = map(int, sys.argv[1:])
run(channel, memory, listeners)
