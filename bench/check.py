"""A figure counts only if the database says that the work was done."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg


class BenchmarkInvalid(Exception):
    """The database does not hold what the benchmark claims to have done."""


def require(url: str, *, jobs: dict[str, int], history: dict[str, int]) -> None:
    """Compare the counts of jobs by status, and of history rows by the status they lead to, with what they must be.

    Raises:
        BenchmarkInvalid: they differ.
    """
    with psycopg.connect(url) as connection:
        found_jobs = _counts(connection, "SELECT status, count(*) FROM callboard.jobs GROUP BY 1")
        found_history = _counts(connection, "SELECT to_status, count(*) FROM callboard.history GROUP BY 1")
    if (found_jobs, found_history) != (jobs, history):
        raise BenchmarkInvalid(
            f"jobs by status: {found_jobs}, expected {jobs}; history rows by status: {found_history}, "
            f"expected {history}. No figure is reported"
        )


def _counts(connection: psycopg.Connection[Any], query: LiteralString) -> dict[str, int]:
    return dict(connection.execute(query).fetchall())
