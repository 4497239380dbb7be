"""One warm child process, seen by the worker: what is sent to it, what comes from it, and its end."""

from __future__ import annotations

import json
import logging
import multiprocessing.spawn
import os
import selectors
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Pipe
from typing import Final

from callboard.actors.child_process import ChildProcess
from callboard.actors.jobs.types import AttemptKey

from .process_messages import Cancel, Message, Run, decode, encode
from .process_output import ProcessOutput

END_SECONDS: Final = 1.0
"""How long an idle process may take to end when it is told to; then it is killed."""
_POLL_INTERVAL_SECONDS: Final = 0.1
"""How often to look whether it has ended, where the system has no descriptor that tells."""
_MOST_CHUNKS: Final = 32
"""A pipe holds less; more is printed while we read."""

# -P below: the folder that `-c` puts first on the path must not decide what `json` is.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[4]); "
    "from callboard.actors.executors.process_child import main; main(*map(int, sys.argv[1:4]))"
)


class JobProcess:
    """A fresh interpreter with this one's import path. It imports a job's module when it first runs one of its jobs.

    Not a fork: a copy of a process with threads inherits locks that nobody releases, and many libraries do not survive
    it. A start costs some tenths of a second and the imports; so processes are kept, and reused.

    Of one thread, which lives as long; ``cancel`` and ``kill`` from any.

    Attributes:
        source: whose output it is that comes now, for the log.
        kinds: of the jobs that it has imported.
        jobs_run: how many it was given.
        is_busy: whether it runs one.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        try:
            with theirs:
                self._child = ChildProcess(_command(theirs.fileno()), pass_fds=(theirs.fileno(),), captures_output=True)
        except BaseException:
            self._connection.close()
            raise
        self._sending = threading.Lock()
        self._outputs = [
            ProcessOutput(stream, name, level)
            for stream, name, level in (
                (self._child.stdout, "stdout", logging.INFO),
                (self._child.stderr, "stderr", logging.WARNING),
            )
            if stream is not None
        ]
        self._stderr = self._outputs[-1]
        self._selector = selectors.DefaultSelector()  # kept: to make one for each wait would cost more than the wait
        for source in (self._connection, *self._outputs, self._child.exit_descriptor):
            if source is not None:
                self._selector.register(source, selectors.EVENT_READ)
        self._returncode: int | None = None
        self._own_name = self.source = f"job process {self.pid}"
        self.kinds: set[str] = set()
        self.jobs_run = 0
        self.is_busy = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        return self._child.memory_bytes()

    @property
    def last_error_lines(self) -> list[str]:
        """What it printed last to stderr: where native code crashes, the traceback."""
        return list(self._stderr.last_lines)

    def begin(self, source: str) -> None:
        """Note that a job begins."""
        self.source = source
        self.is_busy = True
        self.jobs_run += 1

    def finish(self) -> None:
        """Note that it has ended; what it has printed is its own until here."""
        self.read_outputs()
        self.is_busy = False
        self.source = self._own_name

    def send(self, run: Run) -> None:
        """Let it run a job.

        Raises:
            OSError: it has ended.
        """
        with self._sending:
            self._connection.send_bytes(encode(run))

    def cancel(self, attempt: AttemptKey) -> None:
        """Ask the code of an attempt to end. Never blocks: a process that does not read is killed soon anyway."""
        if self._sending.acquire(blocking=False):
            try:
                self._connection.send_bytes(encode(Cancel(attempt)))
            except OSError:
                pass  # it has ended
            finally:
                self._sending.release()

    def kill(self) -> None:
        """End it, and what it has started, at once. Any thread."""
        self._child.kill()

    def receive(self, timeout_seconds: float) -> Message | None:
        """Return its next message, or None if none comes in time. Logs what it prints meanwhile.

        Raises:
            EOFError: it has ended, or hung up.
        """
        ready = self._wait(timeout_seconds)
        if self._connection in ready:
            try:
                return decode(self._connection.recv_bytes())
            except (EOFError, OSError) as error:
                self._selector.unregister(self._connection)
                raise EOFError from error
        if self._has_ended(ready):
            raise EOFError
        return None

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Tell whether it has ended by then; logs what it prints meanwhile. After it has hung up, or we have."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = deadline - time.monotonic()
            if self._has_ended(self._wait(left)):
                return True
            if left <= 0:
                return False

    def read_outputs(self) -> None:
        """Log what it has printed so far."""
        for _ in range(_MOST_CHUNKS if self._returncode is None else 0):
            if not any(isinstance(source, ProcessOutput) for source in self._wait(0)):
                break
        for output in self._outputs:
            output.finish_line(self.source)

    def end(self) -> int:
        """Tell it to end, which it does when idle, and wait; kill it if it does not. Returns its return code."""
        self._hang_up()
        self.wait_ended(END_SECONDS)
        return self.reap()

    def reap(self) -> int:
        """Kill it and what it has started, log its last words, close everything. Returns its return code."""
        if self._returncode is None:
            self._hang_up()
            self._child.kill()
            self._child.wait_ended()
            self.read_outputs()
            self._selector.close()
            self._returncode = self._child.wait()
        return self._returncode

    def _hang_up(self) -> None:
        if not self._connection.closed:
            if self._connection in self._selector.get_map():
                self._selector.unregister(self._connection)
            with self._sending:
                self._connection.close()

    def _wait(self, timeout_seconds: float) -> set[object]:
        """Wait until something happens or the time is over; log what it prints. Returns what was ready."""
        if self._child.exit_descriptor is None:
            timeout_seconds = min(timeout_seconds, _POLL_INTERVAL_SECONDS)
        ready: set[object] = {key.fileobj for key, _ in self._selector.select(max(0.0, timeout_seconds))}
        for output in self._outputs:
            if output in ready and not output.read(self.source):
                self._selector.unregister(output)
        return ready

    def _has_ended(self, ready: set[object]) -> bool:
        descriptor = self._child.exit_descriptor
        return self._child.poll() is not None if descriptor is None else descriptor in ready


def _command(descriptor: int) -> list[str]:
    return [
        os.fsdecode(multiprocessing.spawn.get_executable()),
        # The interpreter's own flags (-O, -W, -X ...), by the function that multiprocessing itself takes for it.
        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
        "-P",
        "-c",
        _PROGRAM,
        str(descriptor),
        str(os.getpid()),
        str(logging.getLogger().getEffectiveLevel()),
        json.dumps(sys.path),
    ]
