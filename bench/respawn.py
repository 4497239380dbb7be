"""How soon is a killed worker process back? ``python -m bench.respawn``, from a clone.

One of several busy processes of ``callboard worker --processes`` is killed with ``kill -9``, round after round.
Measured is the time until the next process in its place says that it runs, and until its first job begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table

from callboard import Runtime, Settings

from .respawn_jobs import JOB_SECONDS, busy
from .server import fresh_database, running_server

SLOTS: Final = 10
PATIENCE_SECONDS: Final = 120.0
_RUNS: Final = re.compile(r" INFO \[\w+\] callboard\.cli: worker (\S+) runs;")
_T = TypeVar("_T")


class Parent:
    """A ``callboard worker`` with its processes, as somebody sees it who reads its log."""

    def __init__(self, url: str, processes: int, options: Sequence[str]) -> None:
        words = ("worker", "bench.respawn_jobs", "--processes", str(processes), "--queue", f"respawn={SLOTS}")
        self.runs: list[float] = []
        """When a process said that it runs."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "callboard.cli", *words, "--metrics-port", "none", *options],
            env=os.environ | {"CALLBOARD_DATABASE_URL": url, "CALLBOARD_MAX_PROCESS_RESTARTS": "1000000"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if _RUNS.search(line):
                self.runs.append(time.time())

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Have so many processes compute meanwhile."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def wait_until(condition: Callable[[], _T], what: str) -> _T:
    """Return the first true value.

    Raises:
        TimeoutError: there is none in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.002)
    return value


def first_jobs(file: Path) -> dict[int, float]:
    """Return when the first job of each process began."""
    pairs = (line.split() for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n"))
    return {int(pid): float(moment) for pid, moment in pairs}


def measure(parent: Parent, file: Path, processes: int, rounds: int, pause_seconds: float) -> list[dict[str, float]]:
    """Kill one process after the other, and return how long each one's place was empty."""
    wait_until(lambda: len(first_jobs(file)) == processes, "the first jobs")
    working, measurements = list(first_jobs(file)), []
    for _ in range(rounds):
        time.sleep(pause_seconds)
        seen, ran = set(first_jobs(file)), len(parent.runs)
        killed_at = time.time()
        os.kill(working.pop(0), signal.SIGKILL)
        (new,) = wait_until(lambda seen=seen: set(first_jobs(file)) - seen, "a job in the new process")  # type: ignore[misc]
        wait_until(lambda ran=ran: len(parent.runs) > ran, "the new process in the log")  # type: ignore[misc]
        working.append(new)
        measurements.append(
            {
                "ready_seconds": parent.runs[ran] - killed_at,
                "first_job_seconds": first_jobs(file)[new] - killed_at,
            }
        )
    return measurements


async def spawn(url: str, file: Path, jobs: int) -> None:
    """Spawn enough jobs to keep all busy."""
    async with Runtime(Settings(database_url=url), work=False) as runtime:
        await runtime.spawn_many(busy, [(file,) for _ in range(jobs)])


def summary(measurements: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the least, the median and the most of each figure."""
    return {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name in measurements[0]
        for values in [[each[name] for each in measurements]]
    }


@click.command()
@click.option("--processes", type=click.IntRange(min=2), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Kills.")
@click.option("--pause", type=float, default=5.0, show_default=True, help="Seconds between two kills.")
@click.option("--load", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that compute.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here too.")
@click.argument("options", nargs=-1)
def main(
    processes: int, rounds: int, pause: float, load: int, json_file: Path | None, options: tuple[str, ...]
) -> None:
    """Measure how soon a killed process is back. OPTIONS, after --, go to callboard worker: -- --no-spare."""
    before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(os.environ.get("CALLBOARD_BENCH_DATABASE_URL")) as server,
        fresh_database(server) as url,
    ):
        file = Path(folder) / "first_jobs"
        file.touch()
        seconds = (rounds + 1) * (pause + 5.0)
        asyncio.run(spawn(url, file, int(processes * SLOTS / JOB_SECONDS * seconds)))
        parent = Parent(url, processes, options)
        try:
            with burning(load):
                measurements = measure(parent, file, processes, rounds, pause)
        finally:
            parent.stop()
    figures: dict[str, Any] = summary(measurements)
    table = Table(title=f"kill -9 of one of {processes} busy processes, {rounds} times")
    for column in ("seconds until", "least", "median", "most"):
        table.add_column(column)
    for name, label in (("ready_seconds", "the next one runs"), ("first_job_seconds", "its first job begins")):
        table.add_row(label, *(f"{figures[name][each]:.2f}" for each in ("min", "median", "max")))
    console = Console()
    console.print(table)
    console.print(f"load {before:.1f} before, {load} processes computing meanwhile", highlight=False)
    if json_file is not None:
        report = {"figures": figures, "measurements": measurements, "load_average": before, "computing": load}
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="python -m bench.respawn")
