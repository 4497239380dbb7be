"""Processes that are started, watched, killed and reaped; real ones."""

import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from callboard.actors import child_process
from callboard.actors.child_process import ChildProcess, resident_memory_bytes
from tests.support.processes import is_running
from tests.support.waiting import wait_until

PATIENCE_SECONDS = 20.0
SLEEPS = (sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(600)")


def first_line(child: ChildProcess) -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()


def test_an_end_is_seen_reaped_and_told() -> None:
    child = ChildProcess((sys.executable, "-S", "-c", "raise SystemExit(3)"))
    if child.exit_descriptor is not None:
        assert multiprocessing.connection.wait([child.exit_descriptor], PATIENCE_SECONDS)
    assert child.wait(PATIENCE_SECONDS) == 3
    assert child.poll() == 3
    assert child.exit_descriptor is None
    assert child.memory_bytes() == 0
    child.kill()
    child.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_a_kill_takes_along_what_the_child_has_started(has_descriptors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_descriptors:
        monkeypatch.setattr(child_process, "_open_exit_descriptor", lambda pid: None)
    program = (
        "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
    )
    with ChildProcess((sys.executable, "-S", "-c", program), captures_output=True) as child:
        grandchild = int(first_line(child))
        assert is_running(grandchild)
        child.kill()
        assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        wait_until(lambda: not is_running(grandchild))


def test_a_wait_has_an_end_and_a_kill_ends_a_wait() -> None:
    with ChildProcess(SLEEPS, captures_output=True) as child:
        assert first_line(child) == "up"
        with pytest.raises(TimeoutError, match=f"process {child.pid} has not ended within 0.01 s"):
            child.wait(0.01)
        assert child.memory_bytes() > 2**20
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(child.wait(PATIENCE_SECONDS)))
        waiting.start()
        child.kill()
        waiting.join(PATIENCE_SECONDS)
        assert codes == [-signal.SIGKILL]


def test_a_child_is_in_a_process_group_of_its_own() -> None:
    with ChildProcess(SLEEPS, captures_output=True) as child:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


def test_nothing_is_left_open() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with ChildProcess((sys.executable, "-S", "-c", "print('gone')"), captures_output=True):
            pass
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_program_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ChildProcess((str(tmp_path / "nothing"),))


def test_nobody_occupies_no_memory() -> None:
    ended = subprocess.run(
        (sys.executable, "-S", "-c", "import os; print(os.getpid())"), capture_output=True, check=True
    )
    assert resident_memory_bytes(int(ended.stdout)) == 0


PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"ready\\n"
print(child.pid, flush=True)
sys.stdin.read()
"""
CHILD = """
import sys, time
from callboard.actors.parent_death import end_with_parent
end_with_parent(int(sys.argv[1]))
print("ready", flush=True)
while True:
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_child_ends_with_its_parent_also_by_kill_9() -> None:
    parent = subprocess.Popen((sys.executable, "-c", PARENT, CHILD), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
        wait_until(lambda: not is_running(child))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    program = "from callboard.actors.parent_death import end_with_parent; end_with_parent(1); print('lives on')"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
