"""Jobs with ``executor="process"``, for the tests of a whole runtime."""

import os
import signal
import time

from callboard import JobContext, JobRegistry, Snooze, job

REGISTRY = JobRegistry()
IN_A_PROCESS = job(executor="process", registry=REGISTRY, max_attempts=2)


@IN_A_PROCESS
def square(ctx: JobContext, number: int) -> tuple[int, int]:
    ctx.progress(1, 1)
    return number * number, os.getpid()


@job(executor="process", registry=REGISTRY, max_attempts=1, timeout_seconds=0.2)
def endless(ctx: JobContext) -> None:
    ctx.progress(os.getpid())
    while True:
        time.sleep(600)


@IN_A_PROCESS
def unlimited(ctx: JobContext) -> None:
    ctx.progress(os.getpid())
    while True:
        time.sleep(600)


@IN_A_PROCESS
def obedient(ctx: JobContext) -> str:
    ctx.progress(os.getpid())
    ctx.wait_cancelled(60)
    return "half done"


@IN_A_PROCESS
def crash_once(ctx: JobContext) -> int:
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return ctx.attempt


@IN_A_PROCESS
def snooze_once(ctx: JobContext, marker: str) -> str:
    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()  # noqa: PTH123
        raise Snooze(0.01)
    return "rested"


@job(executor="process", registry=REGISTRY, max_attempts=1, memory_limit_bytes=128 * 2**20)
def greedy() -> int:
    return len(bytearray(b"x") * (600 * 2**20) + bytearray(b"y" * 2**20) * 2) + wait()


def wait() -> int:
    time.sleep(600)
    return 0
