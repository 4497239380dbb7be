"""The table of Callboard and its peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.report import number, show_surroundings

from .catalogue import PEERS

COLUMNS: Final = {
    "jobs_per_second": "drained\njobs/s",
    "ratio_to_baseline": "÷ bare\nSQL",
    "spawns_per_second": "spawned\njobs/s",
    "pick_up_p50_milliseconds": "pick-up\np50 ms",
    "pick_up_p99_milliseconds": "pick-up\np99 ms",
    "wal_bytes_per_job": "WAL\nB/job",
    "commits_per_job": "commits\n/job",
    "dead_tuples_per_job": "dead\ntuples/job",
}


def show_peers(report: Mapping[str, Any], console: Console) -> None:
    """Print one row a peer, and under the table how each was run; those that were not asked for have none."""
    peers = [peer for peer in PEERS if peer.name in report["figures"] or peer.name in report["unavailable"]]
    table = Table(title=f"peers: {report['jobs']:,} jobs or a share of them, median of {report['rounds']} rounds")
    table.add_column("")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("history kept")
    for peer in peers:
        figures = report["figures"].get(peer.name)
        if figures is None:
            table.add_row(peer.name, *["–"] * len(COLUMNS), report["unavailable"][peer.name])
        else:
            table.add_row(peer.name, *(number(figures[name]) for name in COLUMNS), peer.history)
    table.add_row("bare SQL", number(report["baseline"]["jobs_per_second"]), "1")
    console.print(table)
    for peer in peers:
        versions = f" ({', '.join(peer.requirements)})" if peer.requirements else ""
        console.print(f"{peer.name}: {peer.settings}{versions}", highlight=False, markup=False)
    show_surroundings(report, console)
