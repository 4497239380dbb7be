"""What a failed command says, and the exit code it says it with."""

from __future__ import annotations

import re
import traceback
from enum import IntEnum
from typing import Final

import click

from callboard import (
    CallboardError,
    ConfigurationError,
    InvalidArguments,
    PayloadTooLarge,
    QueueFull,
    SchemaMismatch,
    SchemaMissing,
    ServerTooOld,
    StoreUnavailable,
    UnknownJobKind,
)
from callboard.actors.errors import AdminUnavailable, EmbeddedServerError


class ExitCode(IntEnum):
    """Exit codes, after BSD's ``sysexits.h`` where that has one."""

    OK = 0
    FAILED = 1
    """What was asked for could not be done: no such job or actor, a job that has ended, a schema that is old."""
    USAGE = 2
    """Unknown options or arguments that cannot be read (click's)."""
    DATA = 65
    """EX_DATAERR: the arguments of a job do not fit, or nobody knows its kind."""
    UNAVAILABLE = 69
    """EX_UNAVAILABLE: no database, or one that is too old or has another schema; no worker that answers."""
    SOFTWARE = 70
    """EX_SOFTWARE: the root supervisor gave up."""
    TEMPORARY = 75
    """EX_TEMPFAIL: the queue or the owner has too much waiting; try again later."""
    CONFIGURATION = 78
    """EX_CONFIG: settings are wrong, or a module does not import."""
    INTERRUPTED = 130
    """128 + SIGINT."""


class SupervisorGaveUp(CallboardError):
    """Parts of a worker crashed too often in too short a time."""


class WorkerProcessFailed(CallboardError):
    """A worker process did not start, or such processes crashed too often.

    Attributes:
        code: what to exit with: that of the process that did not start, if it has one of ours.
    """

    def __init__(self, message: str, *, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


_CODES: Final[tuple[tuple[type[CallboardError], ExitCode], ...]] = (
    (InvalidArguments, ExitCode.DATA),
    (PayloadTooLarge, ExitCode.DATA),
    (UnknownJobKind, ExitCode.DATA),
    (QueueFull, ExitCode.TEMPORARY),
    (StoreUnavailable, ExitCode.UNAVAILABLE),
    (ServerTooOld, ExitCode.UNAVAILABLE),
    (SchemaMissing, ExitCode.UNAVAILABLE),
    (SchemaMismatch, ExitCode.UNAVAILABLE),
    (EmbeddedServerError, ExitCode.UNAVAILABLE),
    (AdminUnavailable, ExitCode.UNAVAILABLE),
    (SupervisorGaveUp, ExitCode.SOFTWARE),
    (ConfigurationError, ExitCode.CONFIGURATION),
)

# Up to the last @ of the word: a password may hold one, though it should be written %40 there.
_URL_PASSWORD: Final = re.compile(r"(\w://[^\s:/@]*):\S*@")
_NAMED_PASSWORD: Final = re.compile(r"(\bpassword=)[^&\s]+")


def exit_code(error: CallboardError) -> ExitCode:
    """Return the exit code of a command that ended with ``error``."""
    if isinstance(error, WorkerProcessFailed):
        return error.code
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def masked(text: str) -> str:
    """Return ``text`` with ``***`` in place of the passwords in database URLs."""
    return _NAMED_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text))


def report(error: CallboardError, *, verbose: bool) -> None:
    """Say on stderr, in one line, why a command failed; with ``verbose`` the traceback comes before it."""
    if verbose:
        click.echo(masked("".join(traceback.format_exception(error))), err=True, nl=False)
    click.echo(f"error: {' '.join(masked(str(error)).split())}", err=True)
