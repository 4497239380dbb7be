"""The other end of the pipe, in the process: what its parent says, and that the parent lives."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from callboard.actors.errors import ConfigurationError
from callboard.actors.parent_death import end_with_parent

from .control import (
    Assignment,
    Beat,
    ControlMessage,
    Failed,
    Greeting,
    Hurry,
    Notice,
    Prepared,
    Ready,
    Retire,
    decode,
    encode,
    split,
)
from .linked_process import DESCRIPTOR_VARIABLE, PARENT_VARIABLE

_log = logging.getLogger(__name__)

_RECEIVE_BYTES: Final = 65536
_STDERR: Final = 2
_ORPHANED_EXIT_CODE: Final = 70


class ParentLink:
    """A process's line to the parent that supervises it. Make one, first of all, on the main thread.

    When the parent dies, this process is told to end in order: by SIGTERM on Linux, and everywhere by the end of the
    pipe, which a thread reads, so that it is noticed although the event loop may hang.

    Attributes:
        greeting: what the parent said first.

    Raises:
        ConfigurationError: this process was not started by such a parent.
    """

    greeting: Mapping[str, Any]

    def __init__(self) -> None:
        try:
            descriptor, parent = int(os.environ.pop(DESCRIPTOR_VARIABLE)), int(os.environ.pop(PARENT_VARIABLE))
        except (KeyError, ValueError) as error:
            raise ConfigurationError(
                f"this program is started by a supervising parent: expected {DESCRIPTOR_VARIABLE} and "
                f"{PARENT_VARIABLE} in the environment"
            ) from error
        end_with_parent(parent, signal.SIGTERM)
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._received = b""
        self._lines: list[bytes] = []
        first = self._next()
        if not isinstance(first, Greeting):
            raise ConfigurationError(f"got {first!r} from the parent first; expected its greeting")
        self.greeting = first.document

    def wait_assignment(self, *, beat_interval_seconds: float) -> Mapping[str, Any] | None:
        """Say that this process is prepared, and return what it is to do, once it is told; None if the parent dies.

        On the main thread, before ``listen``. SIGTERM ends the waiting, and the process, unless something handles it.

        Args:
            beat_interval_seconds: how often to say meanwhile that this process lives.
        """
        self._send(Prepared())
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not self._lines and not selector.select(beat_interval_seconds):
                self.beat()
        match self._next():
            case Assignment(document):
                return document
            case None:
                return None
            case message:
                raise ConfigurationError(f"got {message!r} from the parent; expected an assignment")

    def listen(
        self,
        *,
        on_retire: Callable[[], object],
        on_hurry: Callable[[], object],
        on_notice: Callable[[Mapping[str, Any]], object],
        orphan_limit_seconds: float,
    ) -> None:
        """Start the thread that listens to the parent. The callbacks are called in it.

        Args:
            on_retire: end in order; another process has taken this one's place.
            on_hurry: do not wait any longer for what still runs.
            on_notice: called with each notice of the parent.
            orphan_limit_seconds: how long this process may take to end in order once its parent is dead; then it ends
                at once.
        """
        threading.Thread(
            target=self._listen,
            args=(on_retire, on_hurry, on_notice, orphan_limit_seconds),
            name="callboard-parent-link",
            daemon=True,
        ).start()

    def ready(self) -> None:
        """Say that this process does its work from now on. Any thread."""
        self._send(Ready())

    def beat(self) -> None:
        """Say that this process lives: called on its event loop, some times within the parent's limit. Never blocks."""
        self._send(Beat())

    def failed(self, message: str) -> None:
        """Say why this process is about to exit. Any thread."""
        self._send(Failed(message))

    def _send(self, message: ControlMessage) -> None:
        try:
            with self._lock:
                self._socket.send(encode(message), socket.MSG_DONTWAIT)
        except OSError as error:  # the parent is dead, which the thread finds out, or stopped for hours
            _log.debug("the parent does not hear %s: %s", type(message).__name__, error)

    def _next(self) -> ControlMessage | None:
        """Return the parent's next message, waiting for it; None when the parent is dead."""
        while not self._lines:
            try:
                received = self._socket.recv(_RECEIVE_BYTES)
            except OSError as error:
                _log.debug("the control pipe broke: %s", error)
                return None
            if not received:
                return None
            self._lines, self._received = split(self._received + received)
        return decode(self._lines.pop(0))

    def _listen(
        self,
        on_retire: Callable[[], object],
        on_hurry: Callable[[], object],
        on_notice: Callable[[Mapping[str, Any]], object],
        orphan_limit_seconds: float,
    ) -> None:
        while True:
            match self._next():
                case Retire():
                    on_retire()
                case Hurry():
                    on_hurry()
                case Notice(document):
                    on_notice(document)
                case None:
                    break
                case message:
                    _log.error("got %r from the parent: expected an order", message)
        _log.error("the parent process is dead: this one ends in order, within %.0f s", orphan_limit_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(orphan_limit_seconds)
        os.write(_STDERR, b"the parent process is dead, and this one did not end in order: it ends at once\n")
        os._exit(_ORPHANED_EXIT_CODE)
