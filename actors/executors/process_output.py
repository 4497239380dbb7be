"""What a job in a child process prints and logs, in the worker's log."""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import IO, Final

from callboard.actors.jobs.types import ClaimedJob

from .process_messages import Logged

_log = logging.getLogger("callboard.jobs")

LONGEST_LINE_BYTES: Final = 16 * 1024
"""A longer line is logged in pieces."""
LAST_LINES: Final = 20
"""So many are remembered: where a process crashes, they say most."""
_CHUNK_BYTES: Final = 64 * 1024


class ProcessOutput:
    """Reads one stream of a child process, and logs it line by line.

    Args:
        stream: unbuffered.
        name: ``stdout`` or ``stderr``.
        level: of the log records.
    """

    def __init__(self, stream: IO[bytes], name: str, level: int) -> None:
        self._stream = stream
        self._name = name
        self._level = level
        self._rest = b""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def fileno(self) -> int:
        """Return the stream's descriptor: one waits for it to become readable."""
        return self._stream.fileno()

    def read(self, source: str) -> bool:
        """Log what is there; call it when there is something. False at the stream's end.

        Args:
            source: whose output it is, for the log.
        """
        data = os.read(self.fileno(), _CHUNK_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LONGEST_LINE_BYTES:
            lines.append(self._rest[:LONGEST_LINE_BYTES])
            self._rest = self._rest[LONGEST_LINE_BYTES:]
        for line in lines:
            self._write(line, source)
        return bool(data)

    def finish_line(self, source: str) -> None:
        """Log what was printed without a newline."""
        rest, self._rest = self._rest, b""
        if rest:
            self._write(rest, source)

    def _write(self, line: bytes, source: str) -> None:
        text = line.decode(errors="backslashreplace").rstrip("\r")
        self.last_lines.append(text)
        _log.log(self._level, "%s %s: %s", source, self._name, text)


def log_record(logged: Logged, source: str, claimed: ClaimedJob | None) -> None:
    """Put a record of a child process's log into this one's.

    Args:
        logged: the record.
        source: who logged it: stands before the message.
        claimed: the job that runs, if one does: ``job_id`` and ``job_kind`` of the record.
    """
    logger = logging.getLogger(logged.logger)
    if not logger.isEnabledFor(logged.level):
        return
    extra = None if claimed is None else {"job_id": str(claimed.id), "job_kind": claimed.kind}
    record = logger.makeRecord(
        logged.logger, logged.level, "(job process)", 0, "%s: %s", (source, logged.message), None, extra=extra
    )
    record.created = logged.created
    logger.handle(record)
