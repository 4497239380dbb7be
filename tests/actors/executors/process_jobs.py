"""Jobs that do to their process what no job should do."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from callboard import JobContext, JobRegistry, job

REGISTRY = JobRegistry()
IN_A_PROCESS = job(executor="process", registry=REGISTRY)
MEMORY_LIMIT_BYTES = 128 * 2**20


@IN_A_PROCESS
def my_pid() -> int:
    return os.getpid()


@IN_A_PROCESS
def crash(how: str) -> None:
    print("about to crash", flush=True)
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang up":
            os.closerange(3, 256)


@job(executor="process", registry=REGISTRY, memory_limit_bytes=MEMORY_LIMIT_BYTES)
def devour(ctx: JobContext, megabytes: int) -> str:
    block = bytearray(b"x") * (megabytes * 2**20)
    ctx.progress(len(block))
    if megabytes * 2**20 > MEMORY_LIMIT_BYTES:
        time.sleep(600)
    return "enough"


@IN_A_PROCESS
def keep(megabytes: int) -> int:
    KEPT.append(bytearray(b"x") * (megabytes * 2**20))
    return os.getpid()


KEPT: list[bytearray] = []


@IN_A_PROCESS
def talk(text: str) -> None:
    print(text)
    print("no newline", end="", file=sys.stderr)
    os.write(1, b"by the descriptor \xff\n")
    logging.getLogger("talker").warning("careful, %s", "you")
    logging.getLogger("talker").debug("not for everybody")
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("talker").exception("it raised")


@IN_A_PROCESS
def flood(lines: int) -> int:
    for _ in range(lines):
        print("x" * 200)
    return lines


@IN_A_PROCESS
def hang_forever(ctx: JobContext) -> None:
    """Not even signals that can be handled end it."""
    grandchild = subprocess.Popen(["sleep", "600"])
    ctx.progress(pid=os.getpid(), grandchild=grandchild.pid)
    while True:
        time.sleep(600)


@IN_A_PROCESS
def fork_and_return() -> int:
    """Leave a copy of this process behind, which holds everything open."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return pid


@IN_A_PROCESS
def survive_signals() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    child = subprocess.run([sys.executable, "-c", SHOWS_SIGTERM], capture_output=True, text=True, check=True)
    return child.stdout.strip()


SHOWS_SIGTERM = "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"


@IN_A_PROCESS
def close_own_streams() -> str:
    sys.stdout.close()
    sys.stderr = None
    return "still here"


@IN_A_PROCESS
def in_the_main_thread() -> bool:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return threading.current_thread() is threading.main_thread()


@IN_A_PROCESS
async def mapping(ctx: JobContext) -> list[Any]:
    return await ctx.map(my_pid, [()])


@IN_A_PROCESS
async def asking(ctx: JobContext, method: str) -> Any:
    if method == "ctx.step":
        return await ctx.step("key", plain)
    return await ctx.llm_batch({"messages": []}, key="key")


def plain() -> int:
    return 1


under_another_name = IN_A_PROCESS(plain)
