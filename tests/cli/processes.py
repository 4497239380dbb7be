"""Commands as processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

WAIT_SECONDS = 60.0


class CommandProcess:
    """A running `callboard ...`, whose output goes to files."""

    def __init__(self, words: tuple[object, ...], *, folder: Path, environment: dict[str, str]) -> None:
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        with self.stdout.open("w") as stdout, self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "callboard.cli", *map(str, words)],
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def wait_for(self, text: str) -> None:
        """Return once it has said this on stderr."""
        wait_until(
            lambda: self.process.poll() is not None or text in self.stderr.read_text(), timeout_seconds=WAIT_SECONDS
        )
        assert text in self.stderr.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return its exit code."""
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def running(*words: object, folder: Path, **environment: str) -> Iterator[CommandProcess]:
    """Start a command; at the end it is killed, if it still runs."""
    command = CommandProcess(words, folder=folder, environment=environment)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()
