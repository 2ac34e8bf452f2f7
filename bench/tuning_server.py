"""The service under an event loop and an HTTP parser of the caller's choice, which says its time.

python bench/tuning_server.py uvloop httptools 8000
"""

import os
import sys
import time

# ONNX Runtime reads this when it is imported, and would else report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import uvicorn
from ferserve.api.app import create_app

PROCESSOR_TIME = "/processor-time"
"""Answers the seconds this process has used: /proc counts in hundredths only."""


def processor_time() -> float:
    """Answers it."""
    return time.process_time()


def main() -> None:
    """Serves."""
    loop, parser, port = sys.argv[1:]
    app = create_app()
    app.add_api_route(PROCESSOR_TIME, processor_time)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop=loop,
        http=parser,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
