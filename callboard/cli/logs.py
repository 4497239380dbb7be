"""The log of ``worker`` and ``dev``: stdlib logging, on stderr, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import UTC, datetime
from typing import Any, Final

from .errors import masked
from .moment import iso

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(level: str, form: str, *, process: int | None = None) -> None:
    """Send the log of this process to stderr.

    Args:
        level: the least level shown, of Callboard's and everybody's loggers.
        form: ``text`` or ``json``.
        process: the number of this process among several that share stderr; default (None): it is alone.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(process) if form == "json" else TextFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)


class TextFormatter(logging.Formatter):
    """``2026-11-24T20:41:33.123Z INFO callboard.runtime: message``, tracebacks below it. No passwords in URLs.

    One of several processes says ``INFO [2] callboard.runtime: message``.
    """

    def __init__(self, process: int | None = None) -> None:
        mark = "" if process is None else f"[{process}] "
        super().__init__(f"{{asctime}} {{levelname}} {mark}{{name}}: {{message}}", style="{")
        self.converter = time.gmtime
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, what ``extra=`` added, exception. No passwords.

    One of several processes adds ``process``, its number among them, and ``pid``.
    """

    def __init__(self, process: int | None = None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process, "pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        document: dict[str, Any] = {
            "timestamp": iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._process,
        }
        document |= {name: value for name, value in vars(record).items() if name not in _STANDARD | document.keys()}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(document, default=str))
