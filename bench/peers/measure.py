"""Callboard and its peers on the same server in the same run, round by round."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from bench import drain
from bench.check import BenchmarkInvalid
from bench.report import median_of, percentile, ratio
from bench.server import fresh_database, read, spent

from .catalogue import PEERS, Peer
from .environment import PeerUnavailable, python_of
from .stage import STAGE_LIMIT_SECONDS, Stage

REDIS_URL: Final = "redis://127.0.0.1:6379/0"
LATENCY_JOBS: Final = 100
_LOOK_INTERVAL_SECONDS: Final = 0.02


def run(server_url: str, jobs: int, rounds: int, peers: Sequence[Peer] = PEERS) -> dict[str, Any]:
    """Measure every peer once in each round, after a bare loop of SQL.

    Returns:
        For each peer its medians, or why it has none.
    """
    rows: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
    missing: dict[str, str] = {}
    bare = []
    for _ in range(rounds):
        with fresh_database(server_url) as url:
            bare.append(asyncio.run(drain.bare(url, jobs)))
        for peer in peers:
            if peer.name not in missing:
                try:
                    rows[peer.name].append(_measure_twice(server_url, peer, jobs))
                except PeerUnavailable as reason:
                    missing[peer.name] = str(reason)
    figures = {
        name: {**median_of(taken), "ratio_to_baseline": ratio(taken, bare, "jobs_per_second")}
        for name, taken in rows.items()
        if name not in missing
    }
    measurements = {**rows, "baseline": bare}
    return {"figures": figures, "unavailable": missing, "baseline": median_of(bare), "measurements": measurements}


def _measure_twice(server_url: str, peer: Peer, jobs: int) -> dict[str, Any]:
    """Measure a peer, once more where it failed: a race at the start or stop of its worker is not what is measured."""
    with contextlib.suppress(PeerUnavailable):
        return _measure(server_url, peer, jobs)
    return _measure(server_url, peer, jobs)


def _measure(server_url: str, peer: Peer, jobs: int) -> dict[str, Any]:
    python = python_of(peer)
    count = max(2, round(jobs * peer.share))
    name = f"callboard_bench_{secrets.token_hex(6)}"
    if peer.unfinished is None:
        _require_redis()
        return _stages(python, peer, REDIS_URL, name, count, None)
    with fresh_database(server_url, migrated=False) as url, psycopg.connect(url, autocommit=True) as observer:
        return _stages(python, peer, url, name, count, observer)


def _require_redis() -> None:
    address = urlsplit(REDIS_URL)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=1).close()
    except OSError as error:
        raise PeerUnavailable(f"no Redis at {address.hostname}:{address.port}") from error


def _stages(
    python: Path, peer: Peer, url: str, name: str, count: int, observer: psycopg.Connection[Any] | None
) -> dict[str, Any]:
    task = {"url": url, "name": name, "jobs": count, "observed": observer is not None}
    figures: dict[str, Any] = {"jobs": count}
    with Stage(python, peer, {**task, "stage": "spawn"}) as stage:
        stage.answer()
        before = read(observer) if observer else None
        stage.go_on()
        figures["spawns_per_second"] = count / stage.answer()["seconds"]
    if observer and before:
        spawned = spent(before, read(observer))
        with psycopg.connect(url, autocommit=True) as connection:  # its commits count at its end: not below
            connection.execute("VACUUM ANALYZE")
        before = read(observer)
    with Stage(python, peer, {**task, "stage": "drain"}) as stage:
        if observer and peer.unfinished:
            stage.answer()
            empty_at = _wait_empty(observer, peer.unfinished)
            stage.go_on()
            answer = stage.answer()
        else:
            answer = stage.answer()
            empty_at = answer["empty_at"]
    require_once(peer, answer)
    figures["jobs_per_second"] = count / (empty_at - answer["first_call"])
    if observer and before:
        used = spent(before, read(observer))
        figures["wal_bytes_per_job"] = (spawned.wal_bytes + used.wal_bytes) / count
        figures["commits_per_job"] = used.commits / count
        figures["dead_tuples_per_job"] = _dead_tuples(observer) / count
    else:
        figures |= dict.fromkeys(("wal_bytes_per_job", "commits_per_job", "dead_tuples_per_job"))
    with Stage(python, peer, {**task, "stage": "latency", "jobs": LATENCY_JOBS}) as stage:
        answer = stage.answer()
    require_once(peer, answer)
    for percent in (50, 99):
        figures[f"pick_up_p{percent}_milliseconds"] = percentile(answer["pick_ups"], percent) * 1e3
    return figures


def require_once(peer: Peer, answer: dict[str, Any]) -> None:
    """Refuse figures of a stage in which not every job was called exactly once."""
    if answer["calls"] != [1, 1]:
        fewest, most = answer["calls"]
        raise BenchmarkInvalid(f"{peer.name}: a job ran {fewest} times, another {most} times. No figure is reported")


def _wait_empty(observer: psycopg.Connection[Any], unfinished: str) -> float:
    """Return when no job was left to finish, on the wall clock. One transaction, so that it adds one commit."""
    until = time.monotonic() + STAGE_LIMIT_SECONDS
    with observer.transaction():
        while observer.execute(unfinished.encode()).fetchone() == (True,):
            if time.monotonic() > until:
                raise PeerUnavailable(f"failed: jobs were left unfinished for {STAGE_LIMIT_SECONDS:.0f} s")
            time.sleep(_LOOK_INTERVAL_SECONDS)
    return time.time()


def _dead_tuples(observer: psycopg.Connection[Any]) -> int:
    row = observer.execute("SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables").fetchone()
    return 0 if row is None else int(row[0])
