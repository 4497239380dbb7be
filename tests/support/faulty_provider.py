"""The stand-in for providers, made to misbehave by script: each fault once, in order, by the name of the call."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

from callboard.demo.hosted_batches import HostedBatches
from callboard.demo.provider import Answer, Call, ProviderServer

Fault = Callable[[Callable[[], Answer]], Answer]
"""Gets what would answer the call, and answers."""


class FaultyProvider(ProviderServer):
    """Answers as ``ProviderServer``, unless there is a fault left in the script of a call."""

    def __init__(self, *, looks: int = 1) -> None:
        super().__init__(HostedBatches(looks))
        self.calls: list[Call] = []
        self.busiest = 0
        self._busy = 0
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._lasting: dict[str, Fault] = {}
        self._guard = threading.Lock()

    def script(self, name: str, *faults: Fault) -> None:
        """Let the next calls of a name go wrong, each by its own fault."""
        self._faults[name].extend(faults)

    def always(self, name: str, fault: Fault | None) -> None:
        """Let every call of a name go wrong; None ends that."""
        if fault is None:
            self._lasting.pop(name, None)
        else:
            self._lasting[name] = fault

    def count(self, name: str) -> int:
        """Return how many calls of a name there were."""
        with self._guard:
            return sum(call.name == name for call in self.calls)

    def answer(self, call: Call) -> Answer:
        with self._guard:
            self.calls.append(call)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            script = self._faults[call.name]
            fault = script.popleft() if script else self._lasting.get(call.name)
        try:
            return super().answer(call) if fault is None else fault(lambda: super(FaultyProvider, self).answer(call))
        finally:
            with self._guard:
                self._busy -= 1


def refused(status: int, **headers: str) -> Fault:
    """Answer with a status; headers as ``retry_after="3600"``."""
    return lambda _: Answer(
        status,
        {"type": "error", "error": {"type": "scripted", "message": f"scripted {status}"}},
        {name.replace("_", "-").title(): value for name, value in headers.items()},
    )


def lost(serve: Callable[[], Answer]) -> Answer:
    """Do it, and cut the connection before any answer."""
    serve()
    return Answer(cut=True)


def unserved(_: Callable[[], Answer]) -> Answer:
    """Cut the connection without doing anything."""
    return Answer(cut=True)


def edited(change: Callable[[dict], None]) -> Fault:
    """Change the document that is answered."""

    def serve(honest: Callable[[], Answer]) -> Answer:
        answer = honest()
        change(answer.body)
        return answer

    return serve


def lines(change: Callable[[list[bytes]], list[bytes]], *, cut: bool = False) -> Fault:
    """Change the lines of results; with ``cut`` the connection breaks after them."""

    def serve(honest: Callable[[], Answer]) -> Answer:
        return Answer(200, change(list(honest().body)), cut=cut)

    return serve


class Hold:
    """A fault that does what it is asked to, and holds the answer back until it is released."""

    def __init__(self, *, after_lines: int | None = None, before: bool = False) -> None:
        self.reached = threading.Event()
        self._go_on = threading.Event()
        self._after_lines = after_lines
        self._before = before
        self._refused = False

    def release(self) -> None:
        """Let the answer go out."""
        self._go_on.set()

    def refuse(self) -> None:
        """Cut the connection without doing what was asked, where it was not done before."""
        self._refused = True
        self._go_on.set()

    def __call__(self, honest: Callable[[], Answer]) -> Answer:
        if self._before:
            self._wait()
            return Answer(cut=True) if self._refused else honest()
        answer = honest()
        if self._after_lines is not None:
            return answer._replace(body=self._held_lines(list(answer.body), self._after_lines))
        self._wait()
        return answer

    def _held_lines(self, blocks: list[bytes], count: int) -> Iterator[bytes]:
        yield b"".join(blocks[:count])
        self._wait()
        yield b"".join(blocks[count:])

    def _wait(self) -> None:
        self.reached.set()
        if not self._go_on.wait(60):
            raise AssertionError("nobody released what was held")
