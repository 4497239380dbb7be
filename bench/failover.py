"""How long a cluster has no leader: real workers that are killed, cut off, stopped and hung, round after round.

A round ends when another node has begun its term in the database. Each way to fail has clusters of its own, with a
database each; all run beside each other, as they mostly wait, and take the next round of their kind when they can.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click

from callboard import Runtime, Settings
from tests.support.cables import Cut

from .failover_cluster import Cluster, Node, Stage, running_cluster
from .failover_jobs import hang
from .report import Goal
from .server import fresh_database

ROUNDS: Final = 50
CLUSTERS: Final = 2
_KILL_LOOK_SECONDS: Final = 0.005
_SILENCE_LOOK_SECONDS: Final = 0.02

LABELS: Final = {
    "kill": "kill -9",
    "cut": "network cut, silently",
    "unplug": "network cut, link down",
    "stop": "SIGSTOP",
    "hang": "event loop hangs",
}
LIMITS_SECONDS: Final = {"kill": 2.0, "cut": 15.0, "unplug": 15.0, "stop": 15.0, "hang": 15.0}
GOALS: Final = tuple(
    Goal(f"{name}_worst_seconds", LABELS[name], limit, at_least=False) for name, limit in LIMITS_SECONDS.items()
)

Failure = Callable[[Cluster, Node, int], Awaitable[float]]
"""Lets the leader of a term fail, waits for the next one, mends; returns the seconds in between."""


async def kill(cluster: Cluster, leader: Node, term: int) -> float:
    """``kill -9``."""
    began = time.monotonic()
    leader.process.kill()
    seconds = await cluster.taken_over(term, _KILL_LOOK_SECONDS) - began
    await leader.process.wait()
    await cluster.end_node(leader)
    await cluster.start_node()
    return seconds


async def cut(cluster: Cluster, leader: Node, term: int, how: Cut = Cut.SILENT) -> float:
    """Nothing goes through any more: no RST, no FIN."""
    leader.line.cut(how)
    began = time.monotonic()
    seconds = await cluster.taken_over(term, _SILENCE_LOOK_SECONDS) - began
    leader.line.mend()
    return seconds


async def unplug(cluster: Cluster, leader: Node, term: int) -> float:
    """The leader's own link goes down; the server is told nothing."""
    return await cut(cluster, leader, term, Cut.UNPLUGGED)


async def stop(cluster: Cluster, leader: Node, term: int) -> float:
    """SIGSTOP; its session lives."""
    began = time.monotonic()
    leader.process.send_signal(signal.SIGSTOP)
    seconds = await cluster.taken_over(term, _SILENCE_LOOK_SECONDS) - began
    leader.process.send_signal(signal.SIGCONT)
    return seconds


async def hang_loop(cluster: Cluster, leader: Node, term: int) -> float:
    """The event loop hangs, until another one leads; its session lives."""
    began, over = cluster.folder / f"began-{term}", cluster.folder / f"over-{term}"
    async with Runtime(Settings(database_url=cluster.url, pg_pool_size=1), work=False) as client:
        await client.spawn(hang.options(queue=leader.name), began, over)
    seen = await cluster.taken_over(term, _SILENCE_LOOK_SECONDS)
    over.touch()
    return seen - float(began.read_text())


FAILURES: Final[Mapping[str, Failure]] = {"kill": kill, "cut": cut, "unplug": unplug, "stop": stop, "hang": hang_loop}


class Round(NamedTuple):
    """One failure."""

    seconds: float
    """Without a leader."""
    disturbed: bool
    """Whether more than one term began until all stood by again: something else failed as well."""


def run(place: Stage, rounds: int, clusters: int) -> dict[str, Any]:
    """Return each failure's figures, and every round."""
    names = [name for name in FAILURES if name != "unplug" or place.cabled is not None]
    with contextlib.ExitStack() as stack:
        urls = {
            name: [stack.enter_context(fresh_database(place.url)) for _ in range(min(clusters, rounds))]
            for name in names
        }
        measured = asyncio.run(_run(place, urls, rounds))
    figures: dict[str, Any] = {}
    for name, taken in measured.items():
        figures |= summarize(name, taken)
    return {
        "figures": figures,
        "measurements": {name: [taken.seconds for taken in rounds] for name, rounds in measured.items()},
        "cut_by": "a cable between network namespaces" if place.cabled is not None else "a proxy",
    }


def summarize(name: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return a failure's figures."""
    seconds = sorted(taken.seconds for taken in rounds)
    return {
        f"{name}_p50_seconds": statistics.median(seconds),
        f"{name}_p99_seconds": seconds[math.ceil(len(seconds) * 0.99) - 1],
        f"{name}_worst_seconds": seconds[-1],
        f"{name}_rounds": len(seconds),
        f"{name}_disturbed_rounds": sum(taken.disturbed for taken in rounds),
    }


async def _run(place: Stage, urls: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Round]]:
    measured: dict[str, list[Round]] = {name: [] for name in urls}
    async with asyncio.TaskGroup() as group:
        for name, own in urls.items():
            numbers = iter(range(1, rounds + 1))
            for url in own:
                group.create_task(_measure(place, url, name, numbers, rounds, measured[name]))
    return measured


async def _measure(place: Stage, url: str, name: str, numbers: Iterator[int], rounds: int, taken: list[Round]) -> None:
    async with running_cluster(place, url, to_be_cut=name in {"cut", "unplug"}) as cluster:
        leader, term = await cluster.ready()
        for number in numbers:  # those that are left: the other clusters of this kind take some as well
            seconds = await FAILURES[name](cluster, leader, term)
            click.echo(f"{name} {number}/{rounds}: {seconds:.3f} s", err=True)
            leader, after = await cluster.ready()
            taken.append(Round(seconds, disturbed=after != term + 1))
            term = after
