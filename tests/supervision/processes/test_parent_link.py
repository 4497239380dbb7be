"""The process's end of the control pipe, in a process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callboard.actors.errors import ConfigurationError
from callboard.supervision.processes.control import Assignment, Greeting, Hurry, Notice, Retire, decode, encode
from callboard.supervision.processes.linked_process import DESCRIPTOR_VARIABLE, PARENT_VARIABLE
from callboard.supervision.processes.parent_link import ParentLink

PATIENCE_SECONDS = 60.0


@contextmanager
def linked(**greeting: object) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """Start the program, and greet it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            (sys.executable, "-m", "tests.supervision.processes.linked"),
            pass_fds=(theirs.fileno(),),
            env=os.environ | {DESCRIPTOR_VARIABLE: str(theirs.fileno()), PARENT_VARIABLE: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        ours.settimeout(PATIENCE_SECONDS)
        defaults = {"ends": True, "orphan_limit_seconds": 3600, "beat_interval_seconds": 3600}
        ours.sendall(encode(Greeting({**defaults, **greeting})))
        try:
            yield process, ours
        finally:
            process.kill()
            process.communicate()


def test_what_each_says_arrives() -> None:
    with linked() as (process, ours):
        lines = ours.makefile("rb")
        ours.sendall(encode(Assignment({"part": "Ophelia"})))
        said = ["Prepared()", "Ready()", "Beat()", "Failed(message='no reason')"]
        assert [str(decode(lines.readline())) for _ in said] == said
        for message in (Notice({"a": 1}), Retire(), Hurry()):
            ours.sendall(encode(message))
        assert process.stdout is not None
        heard = ["{'part': 'Ophelia'}", "{'a': 1}", "retire", "hurry"]
        assert [process.stdout.readline().strip() for _ in heard] == heard
        lines.close()


def test_one_that_waits_for_its_assignment_beats() -> None:
    with linked(beat_interval_seconds=0.01) as (_, ours), ours.makefile("rb") as lines:
        assert [str(decode(lines.readline())) for _ in range(3)] == ["Prepared()", "Beat()", "Beat()"]


def test_one_whose_parent_dies_before_gets_no_assignment() -> None:
    with linked() as (process, ours):
        ours.shutdown(socket.SHUT_WR)
        assert process.stdout is not None
        assert process.stdout.readline() == "None\n"


def test_another_message_is_no_assignment() -> None:
    with linked() as (process, ours):
        ours.sendall(encode(Hurry()))
        assert process.wait(PATIENCE_SECONDS) == 1
        assert process.stderr is not None
        assert "got Hurry() from the parent; expected an assignment" in process.stderr.read()


def assigned(ours: socket.socket) -> None:
    """Give it its assignment, and wait until it listens."""
    ours.sendall(encode(Assignment({})))
    lines = ours.makefile("rb")
    while str(decode(lines.readline())) != "Ready()":
        pass


def test_an_orphan_is_told_to_end() -> None:
    with linked() as (process, ours):
        assigned(ours)
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "{}\nSIGTERM\n"


def test_an_orphan_that_does_not_end_is_ended() -> None:
    with linked(ends=False, orphan_limit_seconds=0.1) as (process, ours):
        assigned(ours)
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(PATIENCE_SECONDS) == 70
        assert process.stderr is not None
        assert "it ends at once" in process.stderr.read()


@pytest.mark.parametrize("descriptor", [None, "many"])
def test_it_is_for_processes_of_such_a_parent(monkeypatch: pytest.MonkeyPatch, descriptor: str | None) -> None:
    monkeypatch.delenv(DESCRIPTOR_VARIABLE, raising=False)
    if descriptor is not None:
        monkeypatch.setenv(DESCRIPTOR_VARIABLE, descriptor)
    with pytest.raises(ConfigurationError, match="this program is started by a supervising parent"):
        ParentLink()
