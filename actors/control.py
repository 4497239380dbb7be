"""Control flow of actors: what a hook or handler may raise that is an answer to its supervisor, not an error."""

from __future__ import annotations

from typing import Final

from .messages import ERROR, KILLED, SHUTDOWN

_TAKEN: Final = (ERROR, KILLED)


class Stop(Exception):
    """Raise it in a handler: the actor stops in order, as OTP's ``{stop, {shutdown, Text}, State}`` (rule 1.2.3).

    ``on_stop`` runs, watchers get ``Terminated`` with ``reason``, and a ``transient`` child is not restarted. Raised in
    ``on_start``, the start has failed, without a traceback in the log.

    Args:
        reason: why; default ``shutdown``.

    Raises:
        ValueError: ``reason`` is empty, or is one that means a crash.
    """

    def __init__(self, reason: str = SHUTDOWN) -> None:
        check_reason(reason)
        super().__init__(reason)
        self.reason = reason


class Ignore(Exception):
    """Raise it in ``on_start``: the actor is not needed now (OTP's ``ignore``, rules B4 and B5).

    It ends ``normal``, no other hook runs, and its supervisor keeps the specification without a running child. Anywhere
    else it is an error like any other.
    """


def check_reason(reason: str) -> None:
    """Refuse a reason that a watcher would take for a crash.

    Raises:
        ValueError: it is no text, empty, ``error`` or ``killed``.
    """
    if not isinstance(reason, str) or not reason or reason in _TAKEN:
        raise ValueError(f"reason {reason!r}: expected a text that is not empty and none of {', '.join(_TAKEN)}")
