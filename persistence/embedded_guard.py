"""Ends a temporary server whose owner died. Run as a script in a process of its own; standard library only.

A process cannot clean up after its own SIGKILL, so a second, tiny one waits for it. It reads from a pipe whose other
end only the owner holds: the kernel closes that end however the owner dies, on Linux and on macOS alike. (Linux's
PR_SET_PDEATHSIG was no choice: it fires when the *thread* that started the server ends, and callers start servers from
``asyncio.to_thread``.) The parent's process id is watched as well, because a forked child of the owner keeps the pipe
open.

Usage: ``embedded_guard.py HOME``. One byte on standard input: the owner has cleaned up itself. End of file: stop the
server of the data directory ``HOME/cluster`` and remove HOME.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_INTERVAL_SECONDS = 1.0
FAST_STOP_SECONDS = 5.0
IMMEDIATE_STOP_SECONDS = 5.0
REMOVAL_ATTEMPTS = 50
REMOVAL_INTERVAL_SECONDS = 0.1


def start(home: Path) -> subprocess.Popen[bytes]:
    """Start a guard for the server and the folder that this process owns. ``dismiss`` it when they are gone."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def dismiss(guard: subprocess.Popen[bytes], *, finished: bool) -> None:
    """Tell a guard that there is nothing left to do, or that it is its turn; wait for its end."""
    guard.communicate(b"." if finished else b"")


def main(home: Path) -> None:
    """Wait for the owner's word or death; after its death stop the server and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to everybody at a shutdown; we stay until the owner is gone
    if owner_finished():
        return
    for _ in range(REMOVAL_ATTEMPTS):  # an initdb or a server that had only just been started may still write
        end(home / "cluster")
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(REMOVAL_INTERVAL_SECONDS)


def owner_finished() -> bool:
    """Block until the owner is done (True) or dead (False)."""
    owner = os.getppid()
    while os.getppid() == owner:
        if select.select([0], [], [], LOOK_INTERVAL_SECONDS)[0]:
            return os.read(0, 1) != b""
    return False


def end(cluster: Path) -> None:
    """Stop the server of ``cluster``, if there is one: gently, then firmly, then by force."""
    for number, seconds in (
        (signal.SIGINT, FAST_STOP_SECONDS),
        (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS),
        (signal.SIGKILL, IMMEDIATE_STOP_SECONDS),
    ):
        if stop(cluster, number, seconds):
            return


def stop(cluster: Path, number: int, seconds: float) -> bool:
    """Send a signal to the server of ``cluster`` and wait for its end; True if there is none any more."""
    pid = postmaster(cluster)
    if pid is None:
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if postmaster(cluster) is None:
            return True
        time.sleep(0.02)
    return False


def postmaster(cluster: Path) -> int | None:
    """Return the id of the running server of ``cluster``, or None."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return None
    return pid if is_server(pid, cluster) else None


def is_server(pid: int, cluster: Path) -> bool:
    """Tell whether a process runs and is the server of ``cluster``: not a zombie, nor a later owner of the number."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:  # without /proc (macOS) the file's word is enough: the folder is ours alone
        return not Path("/proc/self").exists()
    return os.fsencode(cluster) in arguments


if __name__ == "__main__":
    main(Path(sys.argv[1]))
