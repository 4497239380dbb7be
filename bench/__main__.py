"""``python -m bench drain|spawn|latency|actors|processes|failover``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from callboard.garbage import settle_collector

from . import actors, drain, failover, latency, processes, spawn
from .machine import describe_machine, describe_server
from .report import Goal, show, show_failover, show_groups
from .server import running_server


class Benchmark(NamedTuple):
    """One that needs a server."""

    run: Callable[[str, int, int], dict[str, Any]]
    goals: Sequence[Goal]
    jobs: int
    """How many jobs a round has, unless asked otherwise."""


BENCHMARKS = {
    "drain": Benchmark(drain.run, drain.GOALS, 20_000),
    "spawn": Benchmark(spawn.run, spawn.GOALS, 100_000),
    "latency": Benchmark(latency.run, latency.GOALS, 300),
}


class Serverless(NamedTuple):
    """One that needs no server."""

    run: Callable[[int], dict[str, Any]]
    size: int
    unit: str
    rounds: int


SERVERLESS = {
    "actors": Serverless(actors.run, 200_000, "messages", actors.ROUNDS),
    "processes": Serverless(processes.run, 2_000, "jobs", processes.ROUNDS),
}

FAILOVER = "failover"
ROUNDS = 3


@click.command()
@click.argument("benchmark", type=click.Choice([*BENCHMARKS, *SERVERLESS, FAILOVER]))
@click.option("--jobs", type=click.IntRange(min=2), help="Jobs (or messages) in a round.")
@click.option(
    "--rounds", type=click.IntRange(min=1), help="Default 3, of which the median is reported; 50 failures of each kind."
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here too.")
@click.option(
    "--database-url",
    envvar="CALLBOARD_BENCH_DATABASE_URL",
    help="A PostgreSQL server, on which databases are created and dropped again. Default: a private one.",
)
def main(
    benchmark: str, jobs: int | None, rounds: int | None, json_file: Path | None, database_url: str | None
) -> None:
    """Measure Callboard beside bare psycopg in the same run. See docs/bench.md."""
    console = Console()
    if benchmark in SERVERLESS:
        serverless = SERVERLESS[benchmark]
        report = _report(benchmark, jobs or serverless.size, serverless.rounds, {})
        report["figures"] = serverless.run(report["jobs"])
        show_groups(report, serverless.unit, console)
    elif benchmark == FAILOVER:
        with running_server(database_url) as url:
            report = _report(benchmark, 0, rounds or failover.ROUNDS, describe_server(url))
            report |= failover.run(url, report["rounds"])
        report["goals"] = _reached(failover.GOALS, report["figures"])
        show_failover(report, failover.GOALS, console)
    else:
        settle_collector()  # as `callboard worker` does
        chosen = BENCHMARKS[benchmark]
        with running_server(database_url) as url:
            report = _report(benchmark, jobs or chosen.jobs, rounds or ROUNDS, describe_server(url))
            report |= chosen.run(url, report["jobs"], report["rounds"])
        report["goals"] = _reached(chosen.goals, report["figures"])
        show(report, chosen.goals, console)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _reached(goals: Sequence[Goal], figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**goal._asdict(), "reached": goal.reached(figures[goal.figure])} for goal in goals]


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
