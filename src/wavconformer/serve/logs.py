"""The log: a line of JSON for each event, on standard error. What was said is in it only where it was asked for."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

_LOG = logging.getLogger("wavconformer.serve")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, event, and what it has besides."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Writes an event."""
    _LOG.log(level, event, extra={"fields": fields})


def set_up() -> None:
    """Sends our log, and what uvicorn has to say, to standard error. Requests are logged by us alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (("wavconformer.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
