"""An exception as data: what is kept of it in a job's ``error``."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final

MESSAGE_LIMIT_CHARACTERS: Final = 4_000
TRACEBACK_LIMIT_CHARACTERS: Final = 16_000

_OWN_FOLDER = str(Path(__file__).parent)


def describe(exception: BaseException) -> dict[str, Any]:
    """Return ``{"type", "message", "traceback"}`` of an exception: plain text that fits into the database.

    Our own frames above the job's function are left out. A long traceback loses its beginning, as its end says what
    happened.
    """
    exception_type = type(exception)
    module = "" if exception_type.__module__ == "builtins" else f"{exception_type.__module__}."
    lines = traceback.format_exception(exception_type, exception, _without_own_frames(exception.__traceback__))
    return {
        "type": f"{module}{exception_type.__qualname__}",
        "message": storable(_message(exception))[:MESSAGE_LIMIT_CHARACTERS],
        "traceback": storable("".join(lines))[-TRACEBACK_LIMIT_CHARACTERS:],
    }


def plain_error(type_: str, message: str) -> dict[str, Any]:
    """Return an error that no exception stands behind."""
    return {"type": type_, "message": message, "traceback": None}


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything; the type still tells something
        return f"<its __str__ raised {type(broken).__name__}>"


def _without_own_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frames = frames.tb_next
    return frames


def storable(text: str) -> str:
    """Replace what PostgreSQL's text cannot hold: NUL characters and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
