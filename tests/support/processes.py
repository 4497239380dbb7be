"""Looking at the processes of this machine."""

import contextlib
import os
import subprocess
from pathlib import Path


def processes_naming(path: Path) -> list[int]:
    """Return the ids of all running processes whose command line has ``path``, or something in it."""
    if not Path("/proc/self").exists():
        listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
        return [int(line.split()[0]) for line in listing.stdout.splitlines() if str(path) in line]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if os.fsencode(path) in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def is_running(pid: int) -> bool:
    """Tell whether a process lives; one that has ended and waits to be reaped does not."""
    listing = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip() != "" and not listing.stdout.startswith("Z")
