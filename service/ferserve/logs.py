"""Log lines for people or for machines, each with the id of its request."""

import json
import logging
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
"""Id of the request that the current task works for."""

TEXT = logging.Formatter("%(asctime)s %(levelname)-8s %(name)s [%(request_id)s] %(message)s")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders time (UTC, ISO 8601), level, logger, request id, message and traceback."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: Literal["text", "json"]) -> None:
    """Sends the logs of the process, uvicorn's too, to stderr in the format asked for."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_request_id)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TEXT)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module="PIL")  # it tells of images, as its logger does
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_a_websocket)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True


def _is_not_of_a_websocket(record: logging.LogRecord) -> bool:
    """Whether it is not one of uvicorn's lines that tell addresses and queries; ours do not."""
    message = str(record.msg)
    return not ('"WebSocket ' in message or message.startswith("connection "))
