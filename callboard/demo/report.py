"""What a run found, as data: what ``--json`` prints and the final tables show."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from callboard import HistoryRow, JobRecord, Reason, Status
from callboard.actors.jobs.definition import default_registry

from .expected import Totals


@dataclass(frozen=True, slots=True)
class KindReport:
    """The jobs of one kind. Documented in docs/demo.md."""

    kind: str
    executor: str
    jobs: int
    statuses: dict[Status, int]
    attempts: int
    jobs_per_second: float
    """Ended jobs, from the run's first spawn to the kind's last end."""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. Documented in docs/demo.md."""

    ok: bool
    differences: tuple[str, ...]
    run: str
    python: str
    library: Path
    metrics_url: str | None
    metrics_samples: int
    refusal: str | None
    batch_items: int
    jobs: int
    attempts: int
    interrupted: int
    seconds: float
    jobs_per_second: float
    kinds: tuple[KindReport, ...]
    totals: Totals

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return TypeAdapter(Report).dump_json(self, indent=2).decode()


def make_report(
    records: Sequence[JobRecord],
    *,
    histories: Sequence[Sequence[HistoryRow]],
    differences: Sequence[str],
    run: str,
    library: Path,
    metrics_url: str | None,
    metrics_samples: int,
    refusal: str | None,
    batch_items: int,
    totals: Totals,
) -> Report:
    """Count a run's jobs and put everything together."""
    began = min(record.created_at for record in records)
    seconds = _seconds_until_last_end(began, records)
    return Report(
        ok=not differences,
        differences=tuple(differences),
        run=run,
        python=platform.python_version(),
        library=library,
        metrics_url=metrics_url,
        metrics_samples=metrics_samples,
        refusal=refusal,
        batch_items=batch_items,
        jobs=len(records),
        attempts=sum(record.attempt for record in records),
        interrupted=sum(row.reason is Reason.LEASE_EXPIRED for history in histories for row in history),
        seconds=round(seconds, 3),
        jobs_per_second=_rate(records, seconds),
        kinds=kind_reports(records, began),
        totals=totals,
    )


def kind_reports(records: Sequence[JobRecord], began: datetime) -> tuple[KindReport, ...]:
    """Return a report for each kind, those with the most jobs first."""
    reports = []
    for kind, jobs in Counter(record.kind for record in records).most_common():
        own = [record for record in records if record.kind == kind]
        statuses = Counter(record.status for record in own)
        reports.append(
            KindReport(
                kind=kind,
                executor=default_registry.require(kind).executor,
                jobs=jobs,
                statuses={status: statuses[status] for status in Status if statuses[status]},
                attempts=sum(record.attempt for record in own),
                jobs_per_second=_rate(own, _seconds_until_last_end(began, own)),
            )
        )
    return tuple(reports)


def _seconds_until_last_end(began: datetime, records: Sequence[JobRecord]) -> float:
    ends = [record.finished_at for record in records if record.finished_at is not None]
    return (max(ends) - began).total_seconds() if ends else 0.0


def _rate(records: Sequence[JobRecord], seconds: float) -> float:
    ended = sum(record.status.is_terminal for record in records)
    return round(ended / seconds, 1) if seconds else 0.0
