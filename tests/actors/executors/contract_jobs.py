"""What every executor runs in its contract suite, once as a plain function and once as a coroutine function.

They stand in a module because a child process imports them by name.
"""

import asyncio
import threading
import time
from typing import Any

from tenacity import RetryCallState
from tenacity.wait import wait_base

from callboard import Abort, JobContext, JobRegistry, Retry, Snooze, job
from callboard.actors.jobs.definition import JobDefinition

REGISTRY = JobRegistry()
IN_A_PROCESS = job(executor="process", registry=REGISTRY, retry_on=OSError)
PATIENCE_SECONDS = 20.0


class Unpicklable(Exception):
    """Cannot be pickled, nor can it say what it is."""

    def __init__(self, lock: Any) -> None:
        super().__init__("holds a lock")
        self.lock = lock


class WaitAsTheExceptionSays(wait_base):
    """A retry strategy that looks at the exception."""

    def __call__(self, retry_state: RetryCallState) -> float:
        outcome = retry_state.outcome
        assert outcome is not None
        return float(str(outcome.exception()))


def raise_by_name(name: str) -> None:
    exceptions = {
        "value_error": ValueError("it's broken \ud800 \0"),
        "os_error": OSError("the disk"),
        "unpicklable": Unpicklable(threading.Lock()),
        "local": type("Local", (Exception,), {})("of a class that no module has"),
        "system_exit": SystemExit(3),
        "keyboard_interrupt": KeyboardInterrupt(),
        "cancelled": asyncio.CancelledError(),
        "retry": Retry("later", delay_seconds=7.5),
        "retry_by_strategy": Retry("some time"),
        "snooze": Snooze(30.0),
        "abort": Abort("never"),
        "group": ExceptionGroup("both", [OSError("one"), ValueError("two")]),
    }
    raise exceptions[name]


@IN_A_PROCESS
def echo(value: Any = None) -> Any:
    return value


@IN_A_PROCESS
async def echo_coroutine(value: Any = None) -> Any:
    await asyncio.sleep(0)
    return value


@IN_A_PROCESS
def typed() -> int:
    return "many"  # type: ignore[return-value]


@IN_A_PROCESS
async def typed_coroutine() -> int:
    return "many"  # type: ignore[return-value]


@IN_A_PROCESS
def numbers() -> Any:
    return (number for number in range(3))


@IN_A_PROCESS
async def numbers_coroutine() -> Any:
    return (number for number in range(3))


@IN_A_PROCESS
def failing(name: str) -> None:
    raise_by_name(name)


@IN_A_PROCESS
async def failing_coroutine(name: str) -> None:
    raise_by_name(name)


@job(executor="process", registry=REGISTRY, retry=WaitAsTheExceptionSays())
def patient(seconds: str) -> None:
    raise ValueError(seconds)


@job(executor="process", registry=REGISTRY, retry=WaitAsTheExceptionSays())
async def patient_coroutine(seconds: str) -> None:
    raise ValueError(seconds)


@IN_A_PROCESS
def context(ctx: JobContext) -> dict[str, Any]:
    return {
        "job_id": str(ctx.job_id),
        "kind": ctx.kind,
        "queue": ctx.queue,
        "attempt": ctx.attempt,
        "max_attempts": ctx.max_attempts,
        "token": ctx.token,
        "owner": ctx.owner,
        "deadline": None if ctx.deadline is None else ctx.deadline.isoformat(),
        "cancelled": ctx.cancelled,
    }


@IN_A_PROCESS
async def context_coroutine(ctx: JobContext) -> dict[str, Any]:
    return context(ctx)


@IN_A_PROCESS
def reporting(ctx: JobContext) -> str:
    for done in range(3):
        ctx.progress(done, 3, note="ä\ud800")
    return "reported"


@IN_A_PROCESS
async def reporting_coroutine(ctx: JobContext) -> str:
    return reporting(ctx)


@IN_A_PROCESS
def obedient(ctx: JobContext) -> str:
    """End when asked, and say so."""
    ctx.progress(note="waiting")
    ctx.wait_cancelled(PATIENCE_SECONDS)
    ctx.progress(note="cleaned up")
    return "asked" if ctx.cancelled else "not asked"


@IN_A_PROCESS
async def obedient_coroutine(ctx: JobContext) -> str:
    ctx.progress(note="waiting")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ctx.progress(note="cleaned up")
    return "not asked"


@IN_A_PROCESS
def stubborn(ctx: JobContext) -> str:
    """Look at nothing, and end when the test's patience does."""
    ctx.progress(note="waiting")
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and not RELEASE.is_set():
        time.sleep(0.01)
    return "too late"


@IN_A_PROCESS
async def stubborn_coroutine(ctx: JobContext) -> str:
    ctx.progress(note="waiting")
    while not RELEASE.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    return "too late"


RELEASE = threading.Event()
"""Lets stubborn code in this process end; in a child process nobody sets it."""


def variant(name: str, *, is_coroutine: bool) -> JobDefinition[..., Any]:
    """Return the job of that name, of the wanted kind of function."""
    found: JobDefinition[..., Any] = globals()[f"{name}_coroutine" if is_coroutine else name]
    return found
