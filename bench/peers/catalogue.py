"""Which peers there are: their versions, and what must be known to read their rows."""

from __future__ import annotations

from typing import Final, NamedTuple


class Peer(NamedTuple):
    """One row of the table."""

    name: str
    requirements: tuple[str, ...]
    """What is installed, besides its dependencies; nothing: the environment of the bench itself."""
    share: float
    """Of the jobs of a round: the slow ones get fewer, so that a run stays short."""
    unfinished: str | None
    """SQL that is true as long as a job is left; None where the jobs are in Redis."""
    history: str
    settings: str
    python: tuple[int, int] = (3, 11)
    """The oldest that it runs on."""


PEERS: Final = (
    Peer(
        "callboard",
        (),
        1.0,
        "SELECT EXISTS (SELECT FROM callboard.jobs WHERE status IN ('pending', 'running'))",
        "jobs and every transition",
        "uvloop, one process, 4,000 slots, otherwise its defaults; spawn_many of 10,000",
    ),
    Peer(
        "pgqueuer",
        ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        1.0,
        "SELECT EXISTS (SELECT FROM pgqueuer)",
        "a log; jobs are deleted",
        "asyncpg, uvloop, one process, five consumers as in its own benchmark, with batches of 100; enqueue of 10,000",
    ),
    Peer(
        "awa",
        ("awa-pg==0.6.9",),
        0.5,
        "SELECT EXISTS (SELECT FROM awa.jobs WHERE state::text IN ('available', 'running', 'scheduled', 'retryable'))",
        "jobs, for a day",
        "queue storage, one process, 256 workers; enqueue_many_copy of 10,000",
    ),
    Peer(
        "oban",
        ("oban==0.7.0", "uvloop==0.23.0"),
        0.25,
        "SELECT EXISTS (SELECT FROM oban_jobs WHERE state::text IN ('available', 'executing', 'retryable'))",
        "jobs, for a day",
        "free edition, uvloop, one process, a queue of 100; enqueue_many of 1,000",
        (3, 12),
    ),
    Peer(
        "procrastinate",
        ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
        0.05,
        "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status::text IN ('todo', 'doing'))",
        "jobs and their events",
        "one process, concurrency 30, a pool of 30; batch_defer of 1,000",
    ),
    Peer(
        "dramatiq",
        ("dramatiq==2.2.1", "redis==8.1.0"),
        0.2,
        None,
        "none",
        "Redis, one process, its default of 8 threads; it has no bulk enqueue",
    ),
    Peer(
        "celery",
        ("celery==5.7.0", "redis==8.1.0", "packaging==26.4"),
        0.1,
        None,
        "none",
        "Redis, prefork with a child for each core, results ignored; it has no bulk enqueue",
    ),
)
