"""``python -m service.fronts``: the process of a front; only the supervisor starts it."""

import sys

from service.fronts.front import run

channel, memory, *listeners = map(int, sys.argv[1:])
run(channel, memory, listeners)
