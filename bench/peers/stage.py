"""One stage of one peer, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .catalogue import Peer
from .environment import PeerUnavailable

STAGE_LIMIT_SECONDS: Final = 90.0
_FOLDER: Final = Path(__file__).parent


class Stage:
    """Starts an adapter, and speaks with it in lines (``harness.py``). Leaving it ends the process.

    Args:
        python: the interpreter of the peer's environment.
        peer: which peer.
        task: what to do.
    """

    def __init__(self, python: Path, peer: Peer, task: dict[str, Any]) -> None:
        self._peer = peer
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(python), str(_FOLDER / f"with_{peer.name}.py"), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._limit = threading.Timer(STAGE_LIMIT_SECONDS, self._process.kill)

    def __enter__(self) -> Self:
        self._limit.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._limit.cancel()
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def answer(self) -> dict[str, Any]:
        """Return the adapter's next answer.

        Raises:
            PeerUnavailable: it ended without one.
        """
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._errors.seek(0)
        last = [text for text in self._errors.read().splitlines() if text.strip()][-1:]
        raise PeerUnavailable(f"failed: {last[0] if last else f'no end within {STAGE_LIMIT_SECONDS:.0f} s'}")

    def go_on(self) -> None:
        """Let the adapter go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
