"""How a process ended, in words."""

from __future__ import annotations

import signal
from typing import Final

_HINTS: Final = {
    signal.SIGKILL: "somebody's kill -9, or the kernel's when memory ran out",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGBUS: "a crash in native code, or a file that shrank while it was mapped",
    signal.SIGABRT: "native code gave up, as a failed assertion does",
}


def describe_exit(returncode: int) -> str:
    """Return what a return code means.

    Args:
        returncode: as ``subprocess`` has it: the exit code, or minus the number of the signal that killed it.
    """
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        number = signal.Signals(-returncode)
    except ValueError:
        return f"was killed by signal {-returncode}"
    hint = _HINTS.get(number)
    return f"was killed by {number.name}" + (f" ({hint})" if hint else "")
