"""One warm child process, seen by the worker: what is sent to it, what comes from it, and its end."""

from __future__ import annotations

import json
import logging
import multiprocessing.spawn
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Final

from callboard.actors.child_process import ChildProcess
from callboard.actors.jobs.types import AttemptKey

from .process_messages import Cancel, Message, Run, decode, encode
from .process_output import ProcessOutput

END_SECONDS: Final = 1.0
"""How long an idle process may take to end when it is told to; then it is killed."""
_POLL_INTERVAL_SECONDS: Final = 0.1
"""How often to look whether it has ended, where the system has no descriptor that tells."""

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
        self._open_outputs = list(self._outputs)
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
        ready = self._wait(timeout_seconds, self._connection)
        if self._connection in ready:
            try:
                return decode(self._connection.recv_bytes())
            except OSError as error:
                raise EOFError from error
        if self._child.wait_ended(0):
            raise EOFError
        return None

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Tell whether it has ended by then; logs what it prints meanwhile."""
        deadline = time.monotonic() + timeout_seconds
        while not self._child.wait_ended(0):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wait(left)
        return True

    def read_outputs(self) -> None:
        """Log what it has printed so far."""
        while self._open_outputs:
            ready = self._ready(self._open_outputs, 0)
            if not ready:
                break
            self._read_outputs(ready)
        for output in self._outputs:
            output.finish_line(self.source)

    def end(self) -> int:
        """Tell it to end, which it does when idle, and wait; kill it if it does not. Returns its return code."""
        with self._sending:
            self._connection.close()
        self.wait_ended(END_SECONDS)
        return self.reap()

    def reap(self) -> int:
        """Kill it and what it has started, log its last words, close everything. Returns its return code."""
        with self._sending:
            self._connection.close()
        self._child.kill()
        self._child.wait_ended()
        self.read_outputs()
        self._open_outputs.clear()  # one that a program of the job's own holds open has no end
        return self._child.wait()

    def _wait(self, timeout_seconds: float, *more: Connection) -> list[object]:
        """Log what it prints, until something else happens or the time is over. Returns what is ready."""
        ended = self._child.exit_descriptor
        if ended is None:
            timeout_seconds = min(timeout_seconds, _POLL_INTERVAL_SECONDS)
        ready = self._ready([*more, *self._open_outputs, *(() if ended is None else (ended,))], timeout_seconds)
        self._read_outputs(ready)
        return ready

    def _ready(self, sources: Sequence[Any], timeout_seconds: float) -> list[object]:
        return list(wait(sources, max(0.0, timeout_seconds)))

    def _read_outputs(self, ready: list[object]) -> None:
        for output in [output for output in self._open_outputs if output in ready]:
            if not output.read(self.source):
                self._open_outputs.remove(output)


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
