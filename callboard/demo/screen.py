"""What a run looks like: bars while it runs (on a terminal only), tables at its end, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from callboard import Status

from .library import module_name
from .plan import Plan
from .report import Report

SHOWN_DIFFERENCES = 20


class Screen:
    """Where a run shows itself. With ``json_output`` stdout gets the report as JSON and nothing else."""

    def __init__(self, *, json_output: bool = False) -> None:
        self._json_output = json_output
        self._console = Console(stderr=json_output, highlight=False)

    def note(self, text: str) -> None:
        """Say something in passing."""
        # A file's lines are as long as they are: somebody may search it.
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    def interrupted(self) -> None:
        """Say that somebody pressed Ctrl-C, and what became of the jobs."""
        self.note("[yellow]Interrupted:[/] the jobs that had not ended are cancelled, and everything is stopped.")

    @contextmanager
    def busy(self, text: str) -> Generator[None]:
        """Show that something takes a moment."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield

    def opening(self, plan: Plan, metrics_url: str | None, *, shared: bool) -> None:
        """Say what begins, and where to scrape it; on a shared database, also how another process can help."""
        self.note(
            f"[bold]{plan.run}[/] reads the standard library of this Python: {len(plan.modules):,} modules, "
            f"{len(plan.split)} packages, {sum(plan.jobs.values()):,} jobs."
        )
        self.note(f"Scrape it while it runs: [cyan]{metrics_url}/metrics[/]")
        if shared:
            queues = " ".join(f"--queue {queue}={slots}" for queue, slots in plan.queues.items())
            self.note(f"Another process can help: [cyan]callboard worker callboard.demo.jobs {queues}[/]")

    @contextmanager
    def bars(self, plan: Plan) -> Generator[Bars]:
        """Show a bar for each kind of job."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            expand=True,
        ) as progress:
            yield Bars(progress, plan.jobs)

    def report(self, report: Report) -> None:
        """Show a run's end."""
        if self._json_output:
            sys.stdout.write(report.to_json() + "\n")
        else:
            self._show(report)

    def _show(self, report: Report) -> None:
        totals = report.totals
        self._console.print("", _kinds(report), "", _longest(report), "", sep="\n")
        self.note(
            f"Found: {totals.modules:,} modules, {totals.size_bytes:,} bytes, {totals.lines:,} lines, "
            f"{totals.functions:,} functions, {totals.classes:,} classes."
        )
        self.note(f"Refused, and nothing written: [dim]{escape(str(report.refusal))}[/]")
        self.note(
            f"Scraped: {report.metrics_samples:,} samples from {report.metrics_url}/metrics, "
            f"which is closed now; `callboard dev` keeps one open."
        )
        if report.batch_items:
            self.note(f"Asked in one LLM batch, of a stand-in for a provider: {report.batch_items} questions.")
        if report.interrupted:
            self.note(
                f"Interrupted: {report.interrupted:,} attempts, by the death of their worker; their jobs ran again."
            )
        self._show_verdict(report)

    def _show_verdict(self, report: Report) -> None:
        if report.ok:
            self.note(
                f"[green]All {report.jobs:,} jobs ended as they should, and their totals equal a plain loop's.[/]"
            )
            return
        self.note(f"[red]{len(report.differences):,} things are not as they should be:[/]")
        for line in report.differences[:SHOWN_DIFFERENCES]:
            self.note(f"  {escape(line)}")
        if len(report.differences) > SHOWN_DIFFERENCES:
            self.note(f"  and {len(report.differences) - SHOWN_DIFFERENCES:,} more; --json lists all")


class Bars:
    """A bar for each kind of job."""

    def __init__(self, progress: Progress, jobs: Mapping[str, int]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            kind: progress.add_task(short_kind(kind), total=total) for kind, total in jobs.items()
        }

    def update(self, ended: Mapping[str, int]) -> None:
        """Show how many jobs of each kind have ended."""
        for kind, task in self._tasks.items():
            self._progress.update(task, completed=ended.get(kind, 0))


def short_kind(kind: str) -> str:
    """Return a kind without its module."""
    return kind.rpartition(".")[2]


def _kinds(report: Report) -> Table:
    ended = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    table = _table(show_footer=True)
    table.add_column("Kind", footer="all")
    table.add_column("Runs in", no_wrap=True)
    _add_number(table, "Jobs", f"{report.jobs:,}")
    for status in ended:
        _add_number(table, status.capitalize(), f"{sum(kind.statuses.get(status, 0) for kind in report.kinds):,}")
    _add_number(table, "Attempts", f"{report.attempts:,}")
    _add_number(table, "Jobs/s", f"{report.jobs_per_second:,.0f}")
    for kind in report.kinds:
        table.add_row(
            short_kind(kind.kind),
            kind.executor,
            f"{kind.jobs:,}",
            *(f"{kind.statuses.get(status, 0):,}" for status in ended),
            f"{kind.attempts:,}",
            f"{kind.jobs_per_second:,.0f}",
        )
    return table


def _longest(report: Report) -> Table:
    table = _table()
    table.add_column("The ten longest modules")
    for name in ("Lines", "Functions", "Classes"):
        _add_number(table, name)
    for size in report.totals.longest:
        numbers = (size.lines, size.functions, size.classes)
        table.add_row(module_name(report.library, size.path), *(f"{number:,}" for number in numbers))
    return table


def _table(*, show_footer: bool = False) -> Table:
    """Return a table without frames: eight columns fit on 80 characters."""
    return Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, show_edge=False, show_footer=show_footer)


def _add_number(table: Table, name: str, footer: str = "") -> None:
    table.add_column(name, footer=footer, justify="right", no_wrap=True)
