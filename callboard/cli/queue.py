"""``callboard queue``: list, pause, drain and resume queues."""

from __future__ import annotations

from typing import Any

import click

from callboard import StoreSummary
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.controls import Controls
from callboard.actors.jobs.limits import LimitScope
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import QueueControl
from callboard.actors.settings import check_queue_name

from .command import Command, command, database_url_option, json_option
from .moment import iso
from .output import print_json, print_table
from .settings import load_store_settings
from .store import actor, with_store


class _Group(click.Group):
    command_class = Command


def _queue_name(text: str) -> str:
    try:
        return check_queue_name(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_name_argument = click.argument("name", type=_queue_name, metavar="QUEUE")


@click.group("queue", cls=_Group)
def queue() -> None:
    """List, pause, drain and resume queues, on all nodes at once."""


@command("list")
@database_url_option
@json_option
def list_(database_url: str | None, as_json: bool) -> None:
    """List queues: what is set on them, what waits, what runs, and their limits."""

    async def read(store: JobStore) -> tuple[StoreSummary, Controls]:
        return await store.summary(), await store.controls.read()

    documents = queue_documents(*with_store(load_store_settings(database_url), read))
    if as_json:
        print_json({"queues": documents})
        return
    columns = ["queue", "state", "runnable", "pending", "running", "max_running", "max_queued", "rate"]
    print_table(
        [*(column.replace("_", " ") for column in columns), "changed", "by"],
        ([*(row[column] for column in columns), row["changed_at"], row["changed_by"]] for row in documents),
    )


@command("pause")
@_name_argument
@database_url_option
@json_option
def pause(name: str, database_url: str | None, as_json: bool) -> None:
    """Let nobody claim jobs of a queue. Those that run go on; new ones are taken."""
    _set(name, database_url, as_json, paused=True)


@command("drain")
@_name_argument
@database_url_option
@json_option
def drain(name: str, database_url: str | None, as_json: bool) -> None:
    """Let a queue take no new jobs, and work off those that it has. Ends a pause."""
    _set(name, database_url, as_json, paused=False, draining=True)


@command("resume")
@_name_argument
@database_url_option
@json_option
def resume(name: str, database_url: str | None, as_json: bool) -> None:
    """End a queue's pause or drain."""
    _set(name, database_url, as_json, paused=False, draining=False)


for _command in (list_, pause, drain, resume):
    queue.add_command(_command)


def _set(
    name: str, database_url: str | None, as_json: bool, *, paused: bool | None = None, draining: bool | None = None
) -> None:
    settings = load_store_settings(database_url)

    async def change(store: JobStore) -> Controls:
        await store.controls.set_queue(name, paused=paused, draining=draining, actor=actor(settings))
        return await store.controls.read()

    control = with_store(settings, change).queues[name]
    if as_json:
        print_json({"queue": name, "paused": control.paused, "draining": control.draining})
    else:
        click.echo(f"{name} is {_state(control)}")


def _state(control: QueueControl) -> str:
    states = [state for state, is_so in (("paused", control.paused), ("draining", control.draining)) if is_so]
    return " and ".join(states) or "open"


def queue_documents(summary: StoreSummary, controls: Controls) -> list[dict[str, Any]]:
    """Return the queues as JSON documents: those that have jobs, are set up, or have a limit of their own."""
    depths = {depth.queue: depth.runnable for depth in summary.depths}
    limited = {limit.name for limit in controls.limits if limit.scope is LimitScope.QUEUE} - {"*"}
    names = {count.queue for count in summary.counts} | controls.queues.keys() | limited
    documents = []
    for name in sorted(names):
        control = controls.queues.get(name, QueueControl(name))
        limit = controls.limits.of(LimitScope.QUEUE, name)
        jobs = {
            status: sum(count.jobs for count in summary.counts if (count.queue, count.status) == (name, status))
            for status in (Status.PENDING, Status.RUNNING)
        }
        rate = None if limit is None or limit.rate is None else f"{limit.rate}/{limit.rate_period_seconds:g}s"
        documents.append(
            {
                "queue": name,
                "state": _state(control),
                "paused": control.paused,
                "draining": control.draining,
                "runnable": depths.get(name, 0),
                "pending": jobs[Status.PENDING],
                "running": jobs[Status.RUNNING],
                "max_running": None if limit is None else limit.max_running,
                "max_queued": None if limit is None else limit.max_queued,
                "rate": rate,
                "changed_at": iso(control.changed_at),
                "changed_by": control.changed_by,
            }
        )
    return documents
