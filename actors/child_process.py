"""One operating system process that this one starts, watches, kills and reaps."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

_HAS_PROC: Final = Path("/proc/self/statm").exists()
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_POLL_INTERVAL_SECONDS: Final = 0.02
"""Where the system has no descriptor that tells of a process's end."""


class ChildProcess:
    """A child in a process group of its own.

    Of its own, so that Ctrl-C in a terminal reaches only us (we drain before it ends), and so that a kill takes along
    what the child has started itself. It is started by ``exec``, never by a bare ``fork``: a forked copy of a process
    with threads inherits locks that nobody will release.

    A child that calls ``parent_death.end_with_parent`` dies with the *thread* that started it. Start it from one
    that lives as long.

    Args:
        command: the program and its arguments.
        pass_fds: descriptors that it inherits, besides its three standard ones.
        environment: its whole environment; default ours.
        captures_output: whether its stdout and stderr are pipes (``stdout``, ``stderr``); default: they are ours.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        captures_output: bool = False,
    ) -> None:
        output = subprocess.PIPE if captures_output else None
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            bufsize=0,
            pass_fds=pass_fds,
            env=environment,
            process_group=0,
        )
        self._exit_descriptor = _open_exit_descriptor(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it prints, if captured. Unbuffered."""
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """What it prints to stderr, if captured. Unbuffered."""
        return self._process.stderr

    @property
    def exit_descriptor(self) -> int | None:
        """A descriptor that becomes readable when it has ended; None where the system has none (poll, then).

        The end of a pipe is no such sign: whoever the child has started may hold the pipe open.
        """
        return self._exit_descriptor

    def poll(self) -> int | None:
        """Reap it if it has ended. Returns its return code, or None while it runs. Any thread."""
        with self._lock:
            return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone, unless it has been reaped. Any thread."""
        with self._lock:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it and all of its process group by SIGKILL. Any thread; nothing happens to one that was reaped."""
        with self._lock:  # nobody reaps meanwhile, so its id is still its own
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it is ending (macOS: the latter)
                    os.killpg(self._process.pid, signal.SIGKILL)

    def wait_ended(self, timeout_seconds: float | None = None) -> bool:
        """Return True once it has ended, False if it has not in time.

        It is not reaped, where the system tells of its end otherwise: what it has started can still be killed, and what
        it printed be read.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._exit_descriptor is not None:
                return bool(multiprocessing.connection.wait([self._exit_descriptor], left))
            if self.poll() is not None:
                return True
            if left == 0:
                return False
            time.sleep(_POLL_INTERVAL_SECONDS)

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Reap it when it has ended. Returns its return code; nothing of it is left then, in the system or here.

        Raises:
            TimeoutError: it runs on.
        """
        # Not Popen's wait: it reaps without our lock, and the id that a kill is about could be somebody else's by then.
        if not self.wait_ended(timeout_seconds):
            raise TimeoutError(f"process {self.pid} has not ended within {timeout_seconds:g} s")
        with self._lock:
            returncode = self._process.wait()
        self._close()
        return returncode

    def memory_bytes(self) -> int:
        """Return its resident memory, 0 once it has ended. What it has started is not counted."""
        return resident_memory_bytes(self.pid) if self._process.returncode is None else 0

    def processor_seconds(self) -> float:
        """Return the processor time that it has used, 0 once it has ended."""
        return processor_seconds(self.pid) if self._process.returncode is None else 0.0

    def _close(self) -> None:
        with self._lock:
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    stream.close()
            if self._exit_descriptor is not None:
                os.close(self._exit_descriptor)
                self._exit_descriptor = None


def resident_memory_bytes(pid: int) -> int:
    """Return how much memory a process really occupies, 0 if there is none."""
    if not _HAS_PROC:
        listing = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return int(listing.stdout or 0) * 1024
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 - asked often; a Path costs more
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def processor_seconds(pid: int) -> float:
    """Return how much processor time a process has used, in user and kernel mode; 0 if there is none."""
    if not Path("/proc/self").exists():
        listing = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=False)
        days, _, clock = listing.stdout.strip().rpartition("-")
        seconds = 0.0
        for part in clock.split(":") if clock else ():
            seconds = 60 * seconds + float(part)
        return 86400 * int(days or 0) + seconds
    try:
        # proc(5): utime and stime are the 14th and 15th field; the second, the name, may have spaces, but ends in ")".
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _open_exit_descriptor(pid: int) -> int | None:
    open_descriptor = getattr(os, "pidfd_open", None)  # Linux
    if open_descriptor is None:
        return None
    try:
        descriptor: int = open_descriptor(pid)
    except OSError:  # a kernel before 5.3, or a sandbox
        return None
    return descriptor
