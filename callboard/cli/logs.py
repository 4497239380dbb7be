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


class ProcessMark:
    """Which of several processes that share stderr this one is, in each line of its log.

    Attributes:
        number: its number among them; None: it is the spare.
    """

    def __init__(self, number: int | None) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"[{'spare' if self.number is None else self.number}] "


def configure_logging(level: str, form: str, *, process: ProcessMark | None = None) -> None:
    """Send the log of this process to stderr.

    Args:
        level: the least level shown, of Callboard's and everybody's loggers.
        form: ``text`` or ``json``.
        process: which one this is, now and whenever a line is written; default (None): it is alone.
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

    def __init__(self, process: ProcessMark | None = None) -> None:
        super().__init__("{asctime}", style="{")
        self._process = process
        self.converter = time.gmtime
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as the base class calls it
        """Return the record's first line."""
        return f"{record.asctime} {record.levelname} {self._process or ''}{record.name}: {record.message}"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, what ``extra=`` added, exception. No passwords.

    One of several processes adds ``process``, its number among them (null: the spare), and ``pid``.
    """

    def __init__(self, process: ProcessMark | None = None) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        document: dict[str, Any] = {
            "timestamp": iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({} if self._process is None else {"process": self._process.number, "pid": os.getpid()}),
        }
        document |= {name: value for name, value in vars(record).items() if name not in _STANDARD | document.keys()}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(document, default=str))
