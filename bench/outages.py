"""Is one worker process as fast after an outage as before it? ``python -m bench.outages``, from a clone.

Each outage hits a worker amid thousands of short jobs. Compared are the completions (by the database's clock) of the
seconds before it and of those after the first completion that follows it; jobs wait more than they compute, so that a
worker that has all its slots back has its rate back.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from rich.console import Console
from rich.table import Table

from callboard import JobRegistry, Runtime, Settings, job
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from tests.support.network import Network, Proxy

from .check import BenchmarkInvalid

QUEUE: Final = "outages"
REGISTRY: Final = JobRegistry()
SLOTS: Final = 20
JOB_SECONDS: Final = 0.2
WINDOW_SECONDS: Final = 5.0
CUT_SECONDS: Final = 8.0
RECOVERY_LIMIT_SECONDS: Final = 60.0

Outage = Callable[["Theatre"], Awaitable[None]]


@job(kind="bench.wait", queue=QUEUE, registry=REGISTRY, max_attempts=20)
async def wait(number: int) -> int:
    """Take a while, as a call to somebody else does."""
    await asyncio.sleep(JOB_SECONDS)
    return number


class Theatre:
    """What an outage may touch."""

    def __init__(self, server: EmbeddedServer, url: str, network: Proxy) -> None:
        self.server = server
        self.url = url
        self.network = network

    async def ask(self, sql: str, *parameters: object) -> Any:
        """Return the first value that the server answers, past the network of the worker."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            row = await (await connection.execute(sql.encode(), parameters or None)).fetchone()
        return row and row[0]

    async def completed(self, since: float, until: float) -> int:
        """Count the completions between two moments of the server's clock."""
        return int(
            await self.ask(
                "SELECT count(*) FROM callboard.jobs WHERE status = 'completed'"
                " AND finished_at >= to_timestamp(%s) AND finished_at < to_timestamp(%s)",
                since,
                until,
            )
        )


async def nothing(_: Theatre) -> None:
    """No outage: how far two rates differ by themselves on this machine."""
    await asyncio.sleep(CUT_SECONDS)


async def restart(theatre: Theatre) -> None:
    """The server stops at once, and starts again."""
    await asyncio.to_thread(theatre.server.restart, "immediate")


async def end_backends(theatre: Theatre) -> None:
    """Every session is ended, five times."""
    for _ in range(5):
        await theatre.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.2)


async def end_listener(theatre: Theatre) -> None:
    """The session that listens is ended, ten times."""
    for _ in range(10):
        await theatre.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'callboard listener'"
        )
        await asyncio.sleep(0.2)


def cut(how: Network) -> Outage:
    """Return the outage of a network that is cut for some seconds."""

    async def outage(theatre: Theatre) -> None:
        theatre.network.cut(how)
        await asyncio.sleep(CUT_SECONDS)
        theatre.network.heal()

    return outage


OUTAGES: Final[dict[str, Outage]] = {
    "none, for comparison": nothing,
    "server restarted, immediate mode": restart,
    "every backend ended, five times": end_backends,
    "LISTEN ended, ten times": end_listener,
    "network reset": cut(Network.RESET),
    "network a black hole": cut(Network.BLACKHOLE),
    "answers lost": cut(Network.DEAF),
}


async def measure(server: EmbeddedServer, name: str, outage: Outage) -> dict[str, Any]:
    """Let one outage happen, and return the rates before and after it."""
    url = await asyncio.to_thread(server.create_database, f"bench_{abs(hash((name, time.time_ns())))}")
    await asyncio.to_thread(migrate, url)
    jobs = int(SLOTS / JOB_SECONDS * (3 * WINDOW_SECONDS + 2 * CUT_SECONDS))
    async with Proxy(url) as network, Runtime(Settings(database_url=url), work=False) as client:
        theatre = Theatre(server, url, network)
        await client.spawn_many(wait, [(number,) for number in range(jobs)])
        settings = Settings(database_url=network.url, queues={QUEUE: SLOTS}, statement_timeout_seconds=5)
        async with Runtime(settings, registry=REGISTRY):
            await asyncio.sleep(1.0 + WINDOW_SECONDS)
            began = float(await theatre.ask("SELECT extract(epoch FROM clock_timestamp())"))
            before = await theatre.completed(began - WINDOW_SECONDS, began)
            await outage(theatre)
            over = float(await theatre.ask("SELECT extract(epoch FROM clock_timestamp())"))
            back = await first_completion(theatre, over)
            await asyncio.sleep(1.0 + WINDOW_SECONDS)
            after = await theatre.completed(back + 1.0, back + 1.0 + WINDOW_SECONDS)
        completed = await theatre.ask("SELECT count(*) FROM callboard.jobs WHERE status = 'completed'")
        waiting = await theatre.ask("SELECT count(*) FROM callboard.jobs WHERE status = 'pending'")
        claims = await theatre.ask("SELECT count(*) FROM callboard.history WHERE reason = 'claimed'")
    if completed + waiting != jobs:
        raise BenchmarkInvalid(f"{name}: {completed} jobs are completed, {waiting} wait, of {jobs}: some are elsewhere")
    return {
        "jobs_per_second_before": before / WINDOW_SECONDS,
        "jobs_per_second_after": after / WINDOW_SECONDS,
        "rate_back": after / before,
        "seconds_until_first_completion": back - over,
        "claimed_again": claims - completed,
    }


async def first_completion(theatre: Theatre, since: float) -> float:
    """Return when the first job ended after a moment."""
    async with asyncio.timeout(RECOVERY_LIMIT_SECONDS):
        while True:
            found = await theatre.ask(
                "SELECT extract(epoch FROM min(finished_at)) FROM callboard.jobs WHERE finished_at > to_timestamp(%s)",
                since,
            )
            if found is not None:
                return float(found)
            await asyncio.sleep(0.05)


@click.command()
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here too.")
def main(json_file: Path | None) -> None:
    """Measure how much of its rate a worker has back after each outage."""
    with EmbeddedServer() as server:
        figures = {name: asyncio.run(measure(server, name, outage)) for name, outage in OUTAGES.items()}
    table = Table(title=f"outages: jobs of {JOB_SECONDS * 1000:.0f} ms in {SLOTS} slots")
    table.add_column("outage")
    columns = ("jobs_per_second_before", "jobs_per_second_after", "rate_back", "seconds_until_first_completion")
    for column in (*columns, "claimed_again"):
        table.add_column(column.replace("_", " "), justify="right")
    for name, figure in figures.items():
        table.add_row(name, *(f"{figure[column]:.2f}" for column in columns), str(figure["claimed_again"]))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="python -m bench.outages")
