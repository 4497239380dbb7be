"""``callboard status``: queues, kinds and nodes, counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from callboard import Status, StoreSummary
from callboard.actors.jobs.types import StatusCount

from .command import command, database_url_option, json_option
from .moment import iso
from .output import print_json, print_table
from .settings import load_store_settings
from .store import with_store

_STATUSES = [status.value for status in Status]


@command("status")
@database_url_option
@json_option
def status(database_url: str | None, as_json: bool) -> None:
    """Count jobs by queue and kind, and list the nodes that work."""
    summary = with_store(load_store_settings(database_url), lambda store: store.summary())
    document = status_document(summary)
    if as_json:
        print_json(document)
        return
    print_table(
        ["queue", "runnable", "oldest runnable", *_STATUSES],
        ([row["queue"], row["runnable"], row["oldest_runnable_at"], *_counts(row)] for row in document["queues"]),
        title="Queues",
    )
    click.echo()
    print_table(["kind", *_STATUSES], ([row["kind"], *_counts(row)] for row in document["kinds"]), title="Kinds")
    click.echo()
    print_table(
        ["node", "running", "started", "last seen"],
        ([row["name"], row["running"], row["started_at"], row["seen_at"]] for row in document["nodes"]),
        title="Nodes",
    )


def status_document(summary: StoreSummary) -> dict[str, Any]:
    """Return a summary as a JSON document."""
    depths = {depth.queue: depth for depth in summary.depths}
    queues = sorted({count.queue for count in summary.counts} | depths.keys())
    kinds = sorted({count.kind for count in summary.counts})
    return {
        "queues": [
            {
                "queue": queue,
                "runnable": depths[queue].runnable if queue in depths else 0,
                "oldest_runnable_at": iso(depths[queue].oldest_runnable_at) if queue in depths else None,
                "jobs": _by_status(count for count in summary.counts if count.queue == queue),
            }
            for queue in queues
        ],
        "kinds": [
            {"kind": kind, "jobs": _by_status(count for count in summary.counts if count.kind == kind)}
            for kind in kinds
        ],
        "nodes": [
            {
                "name": node.name,
                "running": node.running,
                "started_at": iso(node.started_at),
                "seen_at": iso(node.seen_at),
            }
            for node in summary.nodes
        ],
    }


def _by_status(counts: Iterable[StatusCount]) -> dict[str, int]:
    jobs = dict.fromkeys(_STATUSES, 0)
    for count in counts:
        jobs[count.status.value] += count.jobs
    return jobs


def _counts(row: dict[str, Any]) -> list[int]:
    return list(row["jobs"].values())
