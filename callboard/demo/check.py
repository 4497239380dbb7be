"""Whether every job of a run ended as it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from callboard import HistoryRow, JobRecord

from .fate import COMPLETED, Fate, difference


def check_jobs(
    expected_jobs: Mapping[str, int],
    fates: Mapping[UUID, Fate],
    records: Sequence[JobRecord],
    histories: Sequence[Sequence[HistoryRow]],
) -> list[str]:
    """Return what is not as it should be, a line each.

    Args:
        expected_jobs: how many jobs of each kind there must be: none lost, none twice, none that was refused.
        fates: how the spawned jobs must end. Jobs that other jobs spawned must complete at their first attempt.
        records: all jobs of the run.
        histories: the history of each of them, in the same order.
    """
    return [
        *_check_counts(expected_jobs, Counter(record.kind for record in records)),
        *_check_presence(fates, records),
        *_check_ends(fates, records, histories),
    ]


def _check_counts(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    return [
        f"{found.get(kind, 0)} jobs of kind {kind}, expected {expected.get(kind, 0)}"
        for kind in sorted({*expected, *found})
        if found.get(kind, 0) != expected.get(kind, 0)
    ]


def _check_presence(fates: Mapping[UUID, Fate], records: Sequence[JobRecord]) -> list[str]:
    missing = fates.keys() - {record.id for record in records}
    return [f"job {job_id} is lost: it was spawned and is not in the database" for job_id in sorted(missing)]


def _check_ends(
    fates: Mapping[UUID, Fate], records: Sequence[JobRecord], histories: Sequence[Sequence[HistoryRow]]
) -> list[str]:
    lines = []
    for record, history in zip(records, histories, strict=True):
        line = difference(fates.get(record.id, COMPLETED), record, history)
        if line is not None:
            lines.append(f"job {record.id} ({record.kind}) {line}{_last_error(record)}")
    return lines


def _last_error(record: JobRecord) -> str:
    return f"; its last error: {record.error['type']}: {record.error['message']}" if record.error else ""
