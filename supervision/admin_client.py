"""The client of an admin socket, for commands: it blocks, and never for long."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from callboard.actors.errors import AdminRefused, AdminUnavailable

from .admin_messages import ANSWER_LIMIT_BYTES, AdminRequest, read_answer, written

_PIECE_BYTES = 64 * 1024


def ask(path: Path, request: AdminRequest, *, timeout_seconds: float) -> dict[str, Any]:
    """Send a request to the process behind a socket and return the result.

    Raises:
        AdminUnavailable: nobody listens, or no answer came in time.
        AdminRefused: the process answered that it cannot be done; nothing more was done than the message says.
    """
    try:
        line = _exchange(path, written(request), time.monotonic() + timeout_seconds)
    except TimeoutError as error:
        raise AdminUnavailable(
            f"the process behind {path} has not answered within {timeout_seconds:g} s. Its event loop may hang: "
            "`kill -USR1` of its process id shows on its stderr where. What was asked may still be done"
        ) from error
    except OSError as error:
        raise AdminUnavailable(
            f"cannot reach a worker at {path}: {error.strerror or error}. `callboard actor tree` shows those that run"
        ) from error
    try:
        answer = read_answer(line)
    except ValidationError as error:
        raise AdminUnavailable(
            f"the process behind {path} does not speak this version's protocol: use the `callboard` of its release"
        ) from error
    if answer.error is not None:
        raise AdminRefused(answer.error.message, code=answer.error.code)
    return answer.result or {}


def _exchange(path: Path, line: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _limit(connection, deadline)
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # a busy server answers and closes without having read
            connection.sendall(line)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            _limit(connection, deadline)
            piece = connection.recv(_PIECE_BYTES)
            if not piece:
                raise ConnectionResetError("it closed the connection without an answer")
            answer += piece
            if len(answer) > ANSWER_LIMIT_BYTES:
                raise OSError(f"its answer is longer than {ANSWER_LIMIT_BYTES} bytes")
        return bytes(answer)


def _limit(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
