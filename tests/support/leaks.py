"""What a test may not leave behind: threads and asyncio tasks."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Collection

from tests.support.waiting import last_value

_THREADS_END_SECONDS = 5.0
_TASKS_END_SECONDS = 1.0


def assert_no_new_threads(
    before: Collection[threading.Thread], *, timeout_seconds: float = _THREADS_END_SECONDS
) -> None:
    """Wait briefly for ending threads; fail with the names and stacks of those that stay."""
    left = last_value(
        lambda: [thread for thread in threading.enumerate() if thread not in before],
        timeout_seconds=timeout_seconds,
    )
    assert not left, "the test left threads running:\n" + "\n".join(_describe_thread(thread) for thread in left)


async def assert_no_new_tasks(
    before: Collection["asyncio.Task[object]"], *, timeout_seconds: float = _TASKS_END_SECONDS
) -> None:
    """Let ending tasks end; cancel those that stay, and fail with their names and stacks."""
    deadline = time.monotonic() + timeout_seconds
    while left := _new_tasks(before):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.001)
    description = "\n".join(_describe_task(task) for task in left)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert not left, f"the test left asyncio tasks running:\n{description}"


def _new_tasks(before: Collection["asyncio.Task[object]"]) -> list["asyncio.Task[object]"]:
    return [task for task in asyncio.all_tasks() if task not in before and not _is_runner(task)]


def _is_runner(task: "asyncio.Task[object]") -> bool:
    """Tell anyio's own tasks, which run the tests and fixtures, from what these have started."""
    return getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)[-4:]) if frame else "  (ended just now)\n"
    return f"  {thread!r}\n{stack}"


def _describe_task(task: "asyncio.Task[object]") -> str:
    frames = task.get_stack(limit=4)
    return f"  {task!r}\n{''.join(''.join(traceback.format_stack(frame, limit=1)) for frame in frames)}"
