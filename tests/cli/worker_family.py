"""A worker with several processes, and what happens in it, as its tests see it."""

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

from .processes import WAIT_SECONDS, CommandProcess, running
from .support import Database, Invoke, document

RUN = "worker processes run; "
QUICK = {
    "CALLBOARD_LEASE_SECONDS": "3600",  # so whatever is rescued is not rescued because a lease expired by itself
    "CALLBOARD_RETRY_INITIAL_SECONDS": "0.01",
    "CALLBOARD_PG_POOL_SIZE": "4",
}
MORE_JOBS = """
import asyncio
import os
from pathlib import Path

from callboard import JobContext, job


@job(max_attempts=3)
async def hold(ctx: JobContext, folder: Path, name: str) -> int:
    (folder / f"{name}-{ctx.attempt}.new").write_text(str(os.getpid()))
    (folder / f"{name}-{ctx.attempt}.new").rename(folder / f"{name}-{ctx.attempt}")
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return ctx.attempt


@job(max_attempts=100)
async def die(code: int) -> None:
    os._exit(code)


@job()
async def grow(folder: Path, megabytes: int) -> int:
    global ballast
    ballast = bytearray(b"x") * (megabytes * 2**20)
    (folder / "grown").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return os.getpid()
"""


@contextmanager
def workers(app: Path, *words: object, processes: int = 2, **environment: str) -> Iterator[CommandProcess]:
    """Start workers, without a spare unless ``words`` say otherwise; in the end nothing of them may be left."""
    modules = ("app_jobs", "app_processes")
    words = ("worker", *modules, "--processes", processes, "--metrics-port", "none", "--no-spare", *words)
    with running(*words, folder=app, **QUICK | environment) as parent:
        pids: set[int] = set()
        try:
            yield parent
            pids = set(children(parent)) if parent.process.poll() is None else set()
        finally:
            parent.process.kill()
            parent.process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), timeout_seconds=WAIT_SECONDS)


def children(parent: CommandProcess) -> list[int]:
    """Return the ids of the worker processes and the spare, the oldest first."""
    listing = Path(f"/proc/{parent.process.pid}/task/{parent.process.pid}/children").read_text()
    return sorted(map(int, listing.split()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def left_in(folder: Path) -> list[int]:
    """Return the ids of all processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended meanwhile
            if (process / "cwd").readlink() == folder and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def spawn(invoke: Invoke, *words: object) -> str:
    result = invoke("job", "spawn", *words, "--json")
    assert result.exit_code == 0, result.output
    return document(result)["id"]


def hold(invoke: Invoke, app: Path, name: str) -> str:
    return spawn(invoke, "app_processes:hold", json.dumps(str(app)), json.dumps(name))


def holder(app: Path, name: str, attempt: int = 1) -> int:
    """Return the process id that runs an attempt, once it does."""
    file = app / f"{name}-{attempt}"
    wait_until(file.exists, timeout_seconds=WAIT_SECONDS)
    return int(file.read_text())


def status_of(database: Database, job_id: str) -> tuple[str, int]:
    return database.query("SELECT status, attempt FROM callboard.jobs WHERE id = %s", job_id)[0]


def wait_completed(database: Database, *job_ids: str) -> None:
    for job_id in job_ids:
        wait_until(lambda job_id=job_id: status_of(database, job_id)[0] == "completed", timeout_seconds=WAIT_SECONDS)


def reasons(invoke: Invoke, job_id: str) -> list[str]:
    return [row["reason"] for row in document(invoke("job", "show", job_id, "--json"))["history"]]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
        return response.read().decode()


def supervisor_page(parent: CommandProcess) -> str:
    """Return where the parent serves its pages."""
    (line,) = [line for line in parent.stderr.read_text().splitlines() if RUN in line]
    return line.partition("supervisor: ")[2].partition("/metrics;")[0]


def last_line(parent: CommandProcess) -> str:
    return parent.stderr.read_text().splitlines()[-1]


def is_ready(base: str) -> bool:
    try:
        return bool(json.loads(read(f"{base}/readyz"))["ok"])
    except urllib.error.HTTPError as error:
        error.close()
        return False
