"""The table of a soak, line by line as it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console

from .report import Goal, number, show_surroundings, verdict


class Column(NamedTuple):
    """A column: its two lines of heading, and what it shows of a sample."""

    heading: tuple[str, str]
    key: str
    divisor: float = 1


COLUMNS: Final = (
    Column(("arrived", "jobs/s"), "jobs_per_second"),
    Column(("", "owed"), "owed"),
    Column(("", "backlog"), "backlog"),
    Column(("pick-up ms", "p50"), "pick_up_p50_milliseconds"),
    Column(("", "p99"), "pick_up_p99_milliseconds"),
    Column(("claims", "/s"), "claims_per_second"),
    Column(("", "ms each"), "claim_milliseconds"),
    Column(("", "entries"), "entries_per_claim"),
    Column(("dead", "tuples"), "dead_tuples"),
    Column(("MB", "table"), "table_bytes", 2**20),
    Column(("", "runnable"), "runnable_index_bytes", 2**20),
    Column(("", "claims"), "claims_bytes", 2**20),
    Column(("whole walk", "ms"), "walk_milliseconds"),
    Column(("", "buffers"), "walk_buffers"),
)
_WIDTH: Final = 10


class SoakTable:
    """Prints samples as they come: a soak takes minutes.

    Args:
        report: what is known before the run.
        console: where to print.
    """

    def __init__(self, report: Mapping[str, Any], console: Console) -> None:
        self._console = console
        self._print(f"soak: {report['jobs']:,} jobs; * while a reader holds a snapshot")
        for line in (0, 1):
            cells = "".join(f"{column.heading[line]:>{_WIDTH}}" for column in COLUMNS)
            self._print(f"{('', 'seconds')[line]:>8}  {cells}")

    def add(self, sample: Mapping[str, Any]) -> None:
        """Print one sample."""
        cells = "".join(f"{_cell(sample[column.key], column.divisor):>{_WIDTH}}" for column in COLUMNS)
        self._print(f"{sample['seconds']:>8.0f}{' *' if sample['pinned'] else '  '}{cells}")

    def finish(self, report: Mapping[str, Any], goals: Sequence[Goal]) -> None:
        """Print how it went, and on what."""
        for goal in goals:
            measured = report["figures"][goal.figure]
            self._print(f"{goal.label}: {number(measured)} ({verdict(goal, measured)})")
        show_surroundings(report, self._console)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _cell(value: float | None, divisor: float) -> str:
    return number(None if value is None else value / divisor)
