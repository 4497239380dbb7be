"""``python -m bench drain|spawn|latency|actors|processes|failover|peers|soak``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from callboard.garbage import settle_collector

from . import actors, drain, failover, latency, processes, soak, spawn
from .failover_cluster import stage
from .machine import describe_machine, describe_server
from .peers import measure
from .peers.catalogue import PEERS
from .peers.table import show_peers
from .report import Goal, show, show_failover, show_groups
from .server import running_server
from .soak_report import SoakTable


class Benchmark(NamedTuple):
    """One that needs a server."""

    run: Callable[[str, int, int], dict[str, Any]]
    goals: Sequence[Goal]
    jobs: int
    """How many jobs a round has, unless asked otherwise."""
    help: str


BENCHMARKS = {
    "drain": Benchmark(drain.run, drain.GOALS, 20_000, "How fast one worker process empties a queue."),
    "spawn": Benchmark(spawn.run, spawn.GOALS, 100_000, "How fast jobs are recorded."),
    "latency": Benchmark(latency.run, latency.GOALS, 300, "How soon a single job starts."),
}


class Serverless(NamedTuple):
    """One that needs no server."""

    run: Callable[[int], dict[str, Any]]
    size: int
    unit: str
    rounds: int
    help: str


SERVERLESS = {
    "actors": Serverless(actors.run, 200_000, "messages", actors.ROUNDS, "The kernel, beside Pykka and the bare loop."),
    "processes": Serverless(processes.run, 2_000, "jobs", processes.ROUNDS, "Jobs in child processes."),
}

_jobs = click.option("--jobs", type=click.IntRange(min=2), help="Jobs (or messages) in a round.")
_json = click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here too."
)
_rounds = click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="The median is reported."
)
_database_url = click.option(
    "--database-url",
    envvar="CALLBOARD_BENCH_DATABASE_URL",
    help="A PostgreSQL server, on which databases are created and dropped again. Default: a private one.",
)


@click.group()
def main() -> None:
    """Measure Callboard beside bare psycopg in the same run. See docs/bench.md."""


def _add_benchmark(name: str, benchmark: Benchmark) -> None:
    @main.command(name, help=benchmark.help)
    @_jobs
    @_rounds
    @_json
    @_database_url
    def command(jobs: int | None, rounds: int, json_file: Path | None, database_url: str | None) -> None:
        settle_collector()  # as `callboard worker` does
        with running_server(database_url) as url:
            report = _report(name, jobs or benchmark.jobs, rounds, describe_server(url))
            report |= benchmark.run(url, report["jobs"], rounds)
        _judge(report, benchmark.goals)
        show(report, benchmark.goals, Console())
        _write(report, json_file)


def _add_serverless(name: str, benchmark: Serverless) -> None:
    @main.command(name, help=benchmark.help)
    @_jobs
    @_json
    def command(jobs: int | None, json_file: Path | None) -> None:
        report = _report(name, jobs or benchmark.size, benchmark.rounds, {})
        report["figures"] = benchmark.run(report["jobs"])
        show_groups(report, benchmark.unit, Console())
        _write(report, json_file)


for _name, _benchmark in BENCHMARKS.items():
    _add_benchmark(_name, _benchmark)
for _name, _serverless in SERVERLESS.items():
    _add_serverless(_name, _serverless)


@main.command("failover")
@click.option("--rounds", type=click.IntRange(min=1), default=failover.ROUNDS, show_default=True, help="Of each kind.")
@click.option(
    "--clusters",
    type=click.IntRange(min=1),
    default=failover.CLUSTERS,
    show_default=True,
    help="Of each kind, beside each other, of two workers each.",
)
@_json
@_database_url
def failover_command(rounds: int, clusters: int, json_file: Path | None, database_url: str | None) -> None:
    """How long a cluster has no leader."""
    with stage(database_url) as place:
        report = _report("failover", 0, rounds, describe_server(place.url))
        report |= failover.run(place, rounds, clusters)
    goals = [goal for goal in failover.GOALS if goal.figure in report["figures"]]
    _judge(report, goals)
    show_failover(report, goals, Console())
    _write(report, json_file)


@main.command("peers")
@click.argument("names", metavar="[PEER]...", nargs=-1, type=click.Choice([peer.name for peer in PEERS]))
@click.option("--jobs", type=click.IntRange(min=100), default=10_000, show_default=True, help="For the fastest.")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="The median is reported.")
@_json
@_database_url
def peers_command(
    names: tuple[str, ...], jobs: int, rounds: int, json_file: Path | None, database_url: str | None
) -> None:
    """Callboard beside pgqueuer, awa, oban, procrastinate, dramatiq and celery; or those that are named."""
    chosen = [peer for peer in PEERS if not names or peer.name in names]
    with running_server(database_url) as url:
        report = _report("peers", jobs, rounds, describe_server(url))
        report |= measure.run(url, jobs, rounds, chosen)
    show_peers(report, Console(width=150))
    _write(report, json_file)


@main.command("soak")
@click.option("--minutes", type=click.FloatRange(min=0.05), default=5.0, show_default=True, help="How long.")
@click.option("--rate", type=click.FloatRange(min=1), default=500.0, show_default=True, help="Jobs a second.")
@_json
@_database_url
def soak_command(minutes: float, rate: float, json_file: Path | None, database_url: str | None) -> None:
    """A steady rate while a reader pins the oldest snapshot."""
    settle_collector()
    with running_server(database_url) as url:
        report = _report("soak", round(minutes * 60 * rate), 1, describe_server(url))
        table = SoakTable(report, Console())
        report |= soak.run(url, minutes, rate, table.add)
    _judge(report, soak.GOALS)
    table.finish(report, soak.GOALS)
    _write(report, json_file)


def _judge(report: dict[str, Any], goals: Sequence[Goal]) -> None:
    report["goals"] = [{**goal._asdict(), "reached": goal.reached(report["figures"][goal.figure])} for goal in goals]


def _write(report: dict[str, Any], json_file: Path | None) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _report(benchmark: str, jobs: int, rounds: int, server: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that is known before the run: the load, for one, must not count the run itself."""
    return {
        "benchmark": benchmark,
        "jobs": jobs,
        "rounds": rounds,
        "machine": describe_machine(),
        "server": server,
    }


if __name__ == "__main__":
    main(prog_name="python -m bench")
