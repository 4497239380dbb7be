"""What a worker and the child process that runs a job say to each other: JSON, never pickles.

So the job in a process sees what a retry on another machine would see, and nothing that a job returns, reports or
raises can run code in the worker.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import TypeAdapter

from callboard.actors.jobs.judgement import Judgement
from callboard.actors.jobs.types import AttemptKey, ClaimedJob


class Run(NamedTuple):
    """To the child: run a job."""

    module: str
    """Where its function is; imported if it was not."""
    qualname: str
    claimed: ClaimedJob
    result_limit_bytes: int


class Cancel(NamedTuple):
    """To the child: the attempt that runs should end."""

    attempt: AttemptKey
    """It may have ended already, and another one run."""


class Ready(NamedTuple):
    """From the child: it has started, and runs what it is told to."""


class Started(NamedTuple):
    """From the child: the function is found and begins. Told once for each kind; from then on it begins at once."""


class Reported(NamedTuple):
    """From the child: progress."""

    report: str
    """JSON text, in ASCII."""


class Logged(NamedTuple):
    """From the child: a record of its log."""

    logger: str
    level: int
    message: str
    """With the traceback, if there is one."""
    created: float


class Finished(NamedTuple):
    """From the child: the function has ended. ``judgement`` is None if it returned."""

    result: str | None
    judgement: Judgement | None
    saw_cancelled: bool


Message: TypeAlias = Run | Cancel | Ready | Started | Reported | Logged | Finished

_TYPES: Final = (Run, Cancel, Ready, Started, Reported, Logged, Finished)
_ADAPTERS: Final[dict[int, TypeAdapter[Any]]] = {number: TypeAdapter(type_) for number, type_ in enumerate(_TYPES)}
_NUMBERS: Final = {type_: number for number, type_ in enumerate(_TYPES)}


def encode(message: Message) -> bytes:
    """Return a message as bytes: one for its type, then JSON."""
    number = _NUMBERS[type(message)]
    return bytes((number,)) + _ADAPTERS[number].dump_json(message)


def decode(data: bytes) -> Message:
    """Return the message that ``encode`` made bytes of.

    Raises:
        ValueError: it did not.
    """
    adapter = _ADAPTERS.get(data[0]) if data else None
    if adapter is None:
        raise ValueError(f"not a message of a job process: {data[:20]!r}")
    message: Message = adapter.validate_json(data[1:])
    return message
