"""Log lines for people or for machines, each with the id of its request."""

import json
import logging
import logging.config
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
"""Id of the request that the current task works for."""


class RequestIdFilter(logging.Filter):
    """Adds ``request_id`` to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        record.request_id = REQUEST_ID.get()
        return True


class NoWebSocketLines(logging.Filter):
    """Drops uvicorn's lines on WebSockets, which tell addresses and queries; ours do not."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every other record pass."""
        message = str(record.msg)
        return not ('"WebSocket ' in message or message.startswith("connection "))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders time (UTC, ISO 8601), level, logger, request id, message and traceback."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: Literal["text", "json"]) -> None:
    """Sends the logs of the process, uvicorn's too, to stderr in the format asked for."""
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module="PIL")  # it tells of images, as its logger does
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {
                "request_id": {"()": RequestIdFilter},
                "no_websocket_lines": {"()": NoWebSocketLines},
            },
            "formatters": {
                "text": {
                    "format": "%(asctime)s %(levelname)-8s %(name)s [%(request_id)s] %(message)s"
                },
                "json": {"()": JsonFormatter},
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "filters": ["request_id"],
                    "formatter": log_format,
                }
            },
            "loggers": {
                "PIL": {"level": "CRITICAL"},
                "uvicorn.error": {"filters": ["no_websocket_lines"]},
            },
            "root": {"level": "INFO", "handlers": ["stderr"]},
        }
    )
