"""What a parent and its process tell each other over the pipe between them: one JSON object a line.

The parent speaks first: the ``Greeting`` has what the process needs to prepare itself (to import things, say). Then the
process is ``Prepared``, and waits for its ``Assignment``, which may have come already: what it is to do, and what is
nobody else's business (passwords, for one: command lines and environments can be read by others). To end in order is no
message but SIGTERM, which also reaches a process that has not read its pipe yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from callboard.actors.errors import ActorError

LINE_LIMIT_BYTES: Final = 2**20
"""A longer line is no message."""


class Greeting(NamedTuple):
    """To the process, once, first: how it prepares itself."""

    document: Mapping[str, Any]


class Assignment(NamedTuple):
    """To the process, once: what it is to do from now on."""

    document: Mapping[str, Any]


class Retire(NamedTuple):
    """To the process: another one has taken its place; hand over what only one can have, and end in order."""


class Hurry(NamedTuple):
    """To the process that ends in order: do not wait any longer for what still runs."""


class Notice(NamedTuple):
    """To the process, again and again: something that its program wants to know."""

    document: Mapping[str, Any]


class Prepared(NamedTuple):
    """From the process, once: it can begin as soon as it has its assignment. From now on it beats."""


class Ready(NamedTuple):
    """From the process, once: it does its work from now on."""


class Beat(NamedTuple):
    """From the process, again and again while it waits for its assignment, and once it is ready: it lives."""


class Failed(NamedTuple):
    """From the process, before it exits: why."""

    message: str


ControlMessage: TypeAlias = Greeting | Assignment | Retire | Hurry | Notice | Prepared | Ready | Beat | Failed

_KINDS: Final[Mapping[str, type[ControlMessage]]] = {
    kind.__name__.lower(): kind for kind in (Greeting, Assignment, Retire, Hurry, Notice, Prepared, Ready, Beat, Failed)
}


class ControlError(ActorError):
    """What came over the pipe is no message."""


def encode(message: ControlMessage) -> bytes:
    """Return a message as the line that travels."""
    return json.dumps([type(message).__name__.lower(), *message]).encode() + b"\n"


def decode(line: bytes) -> ControlMessage:
    """Return the message of a line.

    Raises:
        ControlError: it is none; the message shows how it begins.
    """
    try:
        message = json.loads(line)
        if not isinstance(message, list):
            raise TypeError(type(message).__name__)
        return _KINDS[message[0]](*message[1:])
    except (ValueError, TypeError, LookupError) as error:
        raise ControlError(
            f"got {line[:80]!r} over the control pipe; expected one of {', '.join(_KINDS)}: only ParentLink may write "
            "to that descriptor"
        ) from error


def split(received: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines in what was received, and the beginning of the next one.

    Raises:
        ControlError: a line is longer than ``LINE_LIMIT_BYTES``.
    """
    *lines, rest = received.split(b"\n")
    if len(rest) > LINE_LIMIT_BYTES:
        raise ControlError(f"got {len(rest)} bytes without an end of line over the control pipe: no message is so long")
    return lines, rest
