"""A process and the pipe to it, on the event loop of the parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from callboard.actors.child_process import ChildProcess

from .control import (
    Assignment,
    ControlError,
    ControlMessage,
    Failed,
    Greeting,
    Prepared,
    Ready,
    Retire,
    decode,
    encode,
    split,
)

_log = logging.getLogger(__name__)

DESCRIPTOR_VARIABLE: Final = "CALLBOARD_CONTROL_DESCRIPTOR"
"""Environment variable of the process: its end of the pipe."""
PARENT_VARIABLE: Final = "CALLBOARD_CONTROL_PARENT"
"""Environment variable of the process: the process id of its parent."""

_RECEIVE_BYTES: Final = 65536
_POLL_INTERVAL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one process.

    Attributes:
        command: the program and its arguments. It uses ``ParentLink``.
        greeting: what it is told first, in order to prepare itself; JSON.
        pass_fds: descriptors that it inherits besides stdout and stderr.
        environment: its whole environment; None (default): ours.
    """

    command: Sequence[str]
    greeting: Mapping[str, Any] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()
    environment: Mapping[str, str] | None = None


class LinkedProcess:
    """One process, from its start until it is reaped. To be used on the event loop where it was made.

    Its end is noticed as such, not as the end of the pipe, and takes along what is left of its process group: what it
    has started itself does not outlive it. Make it on a thread that lives as long as it may: on Linux the process is
    told when that thread ends.

    Args:
        launch: how.

    Attributes:
        started_at: when (the loop's time).
        exited: set to the return code (``subprocess``'s) once it is reaped; every message of it has come before.
        prepared: set once it says that it waits for its assignment.
        ready: set once it says that it does its work.
        assigned: whether it was told what to do.
        last_message: what it said of its own failure; empty if nothing.
        asked_to_end: whether it was.
        retired: whether it was, because another one has taken its place.
        silent_seconds: since its last beat, as whoever looks at it has counted.
        killed_for: why we have killed it; empty if we have not.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, launch: Launch) -> None:
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.prepared: asyncio.Future[None] = self._loop.create_future()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.assigned = False
        self.last_message = ""
        self.asked_to_end = False
        self.retired = False
        self.silent_seconds = 0.0
        self.killed_for = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._received = b""
        self._ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = ChildProcess(
                    launch.command,
                    pass_fds=(theirs.fileno(), *launch.pass_fds),
                    environment={
                        **(os.environ if launch.environment is None else launch.environment),
                        DESCRIPTOR_VARIABLE: str(theirs.fileno()),
                        PARENT_VARIABLE: str(os.getpid()),
                    },
                )
            except OSError:
                self._ours.close()
                raise
        self._ours.setblocking(False)
        self._reads = True
        self._loop.add_reader(self._ours, self._receive)
        self._watch_exit()
        self.send(Greeting(launch.greeting))

    def __str__(self) -> str:
        return f"process {self.pid}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    # Orders

    def assign(self, document: Mapping[str, Any]) -> None:
        """Tell it what to do, once; it need not be prepared yet. It says when it is ready."""
        self.assigned = True
        self.send(Assignment(document))

    def send(self, message: ControlMessage) -> None:
        """Tell it something; one that does not read, or has ended, does not hear it."""
        line = encode(message)
        try:
            sent = self._ours.send(line)
        except OSError as error:  # a full pipe is one, too
            _log.debug("%s does not hear %s: %s", self, type(message).__name__, error)
            return
        if sent < len(line):  # half a message is worse than none
            _log.error("%s does not read its control pipe, and is killed", self)
            self.kill("it does not read its control pipe")

    def terminate(self, timeout_seconds: float) -> None:
        """Ask it to end in order, by SIGTERM, unless it was asked before; kill it if it has not by then."""
        if not self.asked_to_end:
            self._process.send_signal(signal.SIGTERM)
            self._expect_end(timeout_seconds)

    def retire(self, timeout_seconds: float) -> None:
        """Tell it that another one has taken its place: to hand over, and to end in order by then."""
        self.retired = True
        if not self.asked_to_end:
            self.send(Retire())
            self._expect_end(timeout_seconds)

    def _expect_end(self, timeout_seconds: float) -> None:
        self.asked_to_end = True
        reason = f"it did not end within {timeout_seconds:g} s"
        self._deadline = self._loop.call_later(timeout_seconds, self.kill, reason)

    def kill(self, reason: str) -> None:
        """End it and its process group at once, by SIGKILL. It is reaped soon."""
        self.killed_for = self.killed_for or reason
        self._process.kill()

    def kill_from_signal_handler(self) -> None:
        """End it and its process group at once, without a lock, which this very thread might hold."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it is ending
                os.killpg(self.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Return its resident memory, 0 once it has ended."""
        return self._process.memory_bytes()

    def processor_seconds(self) -> float:
        """Return the processor time that it has used, 0 once it has ended."""
        return self._process.processor_seconds()

    # What comes from it

    def _receive(self) -> bool:
        """Read what is there; tell whether there may be more."""
        try:
            received = self._ours.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            _log.debug("%s: its control pipe broke: %s", self, error)
            received = b""
        if not received:  # it has closed its end: by its own end, most likely, which is noticed as such
            self._stop_reading()
            return False
        try:
            lines, self._received = split(self._received + received)
            for line in lines:
                self._heard(decode(line))
        except ControlError as error:
            _log.error("%s: %s", self, error)
            self.kill(str(error))
            self._stop_reading()
        return self._reads

    def _heard(self, message: ControlMessage) -> None:
        self.silent_seconds = 0.0
        match message:
            case Prepared() if not self.prepared.done():
                self.prepared.set_result(None)
            case Ready() if not self.ready.done():
                self.ready.set_result(None)
            case Failed(text):
                self.last_message = text
            case _:  # a beat, which has been noted
                pass

    def _stop_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._ours)

    # Its end

    def _watch_exit(self) -> None:
        descriptor = self._process.exit_descriptor
        if descriptor is None:
            self._loop.call_later(_POLL_INTERVAL_SECONDS, self._poll)
        else:
            self._loop.add_reader(descriptor, self._ended, descriptor)

    def _poll(self) -> None:
        returncode = self._process.poll()
        if returncode is None:
            self._loop.call_later(_POLL_INTERVAL_SECONDS, self._poll)
        else:
            self._reaped(returncode)

    def _ended(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._process.kill()  # before it is reaped: until then nobody else can have its process group's number
        self._reaped(self._process.wait())

    def _reaped(self, returncode: int) -> None:
        while self._reads and self._receive():
            pass  # its last words
        self._stop_reading()
        self._ours.close()
        if self._deadline is not None:
            self._deadline.cancel()
        self.exited.set_result(returncode)
