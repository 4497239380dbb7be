"""Where a figure was measured: without this it says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any, Final

import psycopg

LIBRARIES: Final = ("callboard", "pykka", "psycopg", "sqlalchemy", "pydantic")
SERVER_SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
    "jit",
)
_COMMITS: Final = 50


def describe_machine() -> dict[str, Any]:
    """Return the processor, its cores, the operating system, Python and the libraries."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "load_average": os.getloadavg()[0],
    }


def describe_server(url: str) -> dict[str, Any]:
    """Return the server's version, the settings that decide what a commit costs, and what one does cost here."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", (list(SERVER_SETTINGS),)
        ).fetchall()
        return {**dict(rows), "commit_milliseconds": round(_commit_seconds(connection) * 1e3, 3)}


def _commit_seconds(connection: psycopg.Connection[Any]) -> float:
    """Return the median time of a durable commit that writes almost nothing: it shows a disk that only pretends."""
    seconds = []
    for _ in range(_COMMITS):
        begin = time.perf_counter()
        connection.execute("SELECT pg_logical_emit_message(true, 'callboard bench', '')")
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
