"""For child processes: do not outlive the parent, whatever it dies of."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when the thread that started it has ended; at once if the parent has.

    Linux only; elsewhere nothing happens. Whoever wants more (macOS, and what this process starts itself) watches a
    pipe that the parent holds open: its end is the parent's.

    Args:
        parent_pid: as the parent knows itself, so that one that died before this call is noticed.
        number: the signal; default SIGKILL.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent_pid:
        os._exit(1)
