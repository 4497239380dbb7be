"""For child processes: do not outlive the parent, whatever it dies of."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it has ended; at once if the parent has.

    Linux only; elsewhere nothing happens. Whoever wants more (macOS, and what this process starts itself) watches a
    pipe that the parent holds open: its end is the parent's.

    Args:
        parent_pid: as the parent knows itself, so that one that died before this call is noticed.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent_pid:
        os._exit(1)
