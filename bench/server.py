"""Databases to measure in, and what measuring reads from the server: WAL, commits, processor time."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from sqlalchemy.engine import make_url

from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate

_SETTLE_SECONDS = 0.25


@contextmanager
def running_server(url: str | None, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Yield the URL of a server: the given one, or a private one with its default settings (fsync on), and these."""
    if url is not None:
        yield url
        return
    with EmbeddedServer(settings=settings) as server:
        yield server.url


@contextmanager
def fresh_database(server_url: str, *, migrated: bool = True) -> Iterator[str]:
    """Yield the URL of a new database; drop it at the end. Nothing else on the server is touched.

    Args:
        server_url: the server.
        migrated: whether it has our tables.
    """
    name = f"callboard_bench_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
        if migrated:
            migrate(url)
        yield url
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class Reading(NamedTuple):
    """What the server has spent up to a moment."""

    wal_bytes: int
    full_page_images: int
    commits: int
    cpu_seconds: float | None
    """Of all its processes; None where they are not on this machine."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What the server spent between two readings."""

    wal_bytes: int
    full_page_images: int
    commits: int
    cpu_seconds: float | None


def read(connection: psycopg.Connection[Any]) -> Reading:
    """Read the counters, after a moment in which backends that are ending can end.

    Only then their processor time is their parent's and their commits are counted. A backend that lives on reports its
    commits when it has been idle for a while; measured runtimes are stopped before the second reading.
    """
    time.sleep(_SETTLE_SECONDS)
    # WAL written by everybody on the server: a benchmark wants it to itself.
    row = connection.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, (SELECT wal_fpi FROM pg_stat_wal), "
        "(SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()), pg_backend_pid()"
    ).fetchone()
    if row is None:
        raise AssertionError("a SELECT without FROM returned no row")
    return Reading(row[0], row[1], row[2], _server_cpu_seconds(row[3]))


def spent(before: Reading, after: Reading) -> Spent:
    """Return what was spent between two readings."""
    cpu = None
    if before.cpu_seconds is not None and after.cpu_seconds is not None:
        cpu = after.cpu_seconds - before.cpu_seconds
    return Spent(
        after.wal_bytes - before.wal_bytes,
        after.full_page_images - before.full_page_images,
        after.commits - before.commits,
        cpu,
    )


def _server_cpu_seconds(backend_pid: int) -> float | None:
    """Sum the processor time of the server's processes, living and ended, from /proc; None if it is not here."""
    backend = _process(backend_pid)
    if backend is None or not backend.name.startswith("postgres"):
        return None
    postmaster = _process(backend.parent)
    if postmaster is None:
        return None
    ticks = postmaster.own_ticks + postmaster.ended_children_ticks
    for folder in Path("/proc").iterdir():
        child = _process(int(folder.name)) if folder.name.isdecimal() else None
        if child is not None and child.parent == backend.parent:
            ticks += child.own_ticks
    return ticks / os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    name: str
    parent: int
    own_ticks: int
    ended_children_ticks: int


def _process(pid: int) -> _Process | None:
    """Read /proc/<pid>/stat (proc(5)); None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return _Process(name, int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
