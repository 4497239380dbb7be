"""What the end of a process was."""

from __future__ import annotations

import signal

from callboard.actors.errors import ProcessExited
from callboard.actors.exit_status import describe_exit

from .linked_process import LinkedProcess
from .telemetry import ExitCause


def exit_cause(process: LinkedProcess, returncode: int) -> ExitCause:
    """Return the metric's word for the end of a process."""
    if process.killed_for:
        return "killed"
    if process.asked_to_end and returncode in (0, -signal.SIGTERM):
        return "asked"
    if returncode == 0:
        return "normal"
    return "error" if returncode > 0 else "signal"


def process_exited(name: str, process: LinkedProcess, returncode: int, when: str = "") -> ProcessExited:
    """Return the end of a process as the failure that it is.

    Args:
        name: of its place.
        process: which one.
        returncode: as ``subprocess`` has it.
        when: what it did at the time, such as ``before it was ready``.
    """
    reason = (
        f"was killed: {process.killed_for}" if process.killed_for else f"{describe_exit(returncode)} {when}".strip()
    )
    said = f": {process.last_message}" if process.last_message else ""
    return ProcessExited(
        f"{name} (pid {process.pid}) {reason}{said}",
        exit_code=returncode if returncode >= 0 else None,
        signal_number=-returncode if returncode < 0 else None,
        last_message=process.last_message,
    )
