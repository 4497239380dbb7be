"""``callboard batch``: list, show and cancel LLM batches, and what waits for one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from callboard import BatchNotFound, BatchRecord, BatchResult, BatchStatus
from callboard.actors.job_store import JobStore

from .command import Command, command, database_url_option, json_option
from .errors import ExitCode
from .moment import iso
from .output import print_fields, print_json, print_table
from .settings import load_store_settings
from .store import actor, with_store


class _Group(click.Group):
    command_class = Command


_id_argument = click.argument("batch_id", type=click.UUID, metavar="BATCH")


@click.group("batch", cls=_Group)
def batch() -> None:
    """List, show and cancel LLM batches, and list what waits for one."""


@command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in BatchStatus]),
    help="Only those; may be given more than once.",
)
@click.option("--provider", metavar="NAME", help="Only this one's.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option("--before", type=click.UUID, metavar="BATCH", help="Continue after this one, the last of a page before.")
@database_url_option
@json_option
def list_(
    statuses: tuple[str, ...],
    provider: str | None,
    limit: int,
    before: UUID | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """List batches, newest first."""
    wanted = [BatchStatus(status) for status in statuses]

    async def read(store: JobStore) -> list[BatchRecord]:
        return await store.batches.list_batches(statuses=wanted, provider=provider, limit=limit, before=before)

    documents = [batch_document(record) for record in with_store(load_store_settings(database_url), read)]
    if as_json:
        print_json({"batches": documents})
        return
    columns = ["id", "provider", "status", "collected_items", "total_items", "provider_status", "failures"]
    print_table(
        [*(column.replace("_", " ") for column in columns), "created"],
        ([*(row[column] for column in columns), row["created_at"]] for row in documents),
    )


@command("show")
@_id_argument
@click.option("--results", "with_results", is_flag=True, help="With every request and what became of it.")
@database_url_option
@json_option
def show(batch_id: UUID, with_results: bool, database_url: str | None, as_json: bool) -> None:
    """Show a batch. Exit code 1 if there is none."""

    async def read(store: JobStore) -> tuple[BatchRecord | None, list[BatchResult]]:
        record = await store.batches.get(batch_id)
        if record is None or not with_results:
            return record, []
        return record, await store.batches.results(batch_id, limit=record.total_items)

    record, results = with_store(load_store_settings(database_url), read)
    if record is None:
        raise BatchNotFound(batch_id)
    document = batch_document(record)
    items = [_result_document(result) for result in results]
    if as_json:
        print_json(document | ({"results": items} if with_results else {}))
        return
    print_fields((name.replace("_", " "), value) for name, value in document.items())
    if with_results:
        print_table(list(items[0]), ([*item.values()] for item in items))


@command("cancel")
@_id_argument
@database_url_option
@json_option
@click.pass_context
def cancel(ctx: click.Context, batch_id: UUID, database_url: str | None, as_json: bool) -> None:
    """Cancel a batch: it ends `cancelled`, once what it has finished is collected. The poller tells the provider.

    Exit code 1 if it had ended, or was cancelled, before.
    """
    settings = load_store_settings(database_url)

    async def request(store: JobStore) -> tuple[BatchRecord, bool] | None:
        return await store.batches.request_cancel(batch_id, actor=actor(settings))

    answer = with_store(settings, request)
    if answer is None:
        raise BatchNotFound(batch_id)
    record, cancelled = answer
    if as_json:
        print_json({"batch": str(batch_id), "cancelled": cancelled, "status": record.status.value})
    elif cancelled:
        click.echo(f"batch {batch_id} is cancelled; what it has finished is still collected")
    elif record.status.is_terminal:
        click.echo(f"batch {batch_id} is {record.status.value} already")
    else:
        click.echo(f"batch {batch_id} was cancelled before")
    if not cancelled:
        ctx.exit(ExitCode.FAILED)


@command("waiting")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
@database_url_option
@json_option
def waiting(limit: int, database_url: str | None, as_json: bool) -> None:
    """List what jobs have asked a model and is in no batch yet, the oldest first."""
    found = with_store(load_store_settings(database_url), lambda store: store.llm_requests.waiting(limit=limit))
    documents = [
        {
            "job_id": str(one.job_id),
            "key": one.key,
            "provider": one.provider,
            "requested_at": iso(one.requested_at),
            "resubmissions": one.resubmissions,
        }
        for one in found
    ]
    if as_json:
        print_json({"requests": documents})
        return
    columns = ["job_id", "key", "provider", "requested_at", "resubmissions"]
    print_table(
        [column.replace("_", " ") for column in columns], ([row[column] for column in columns] for row in documents)
    )


for _command in (list_, show, waiting, cancel):
    batch.add_command(_command)


def batch_document(record: BatchRecord) -> dict[str, Any]:
    """Return a batch as a JSON document."""
    return {
        "id": str(record.id),
        "provider": record.provider,
        "endpoint": record.endpoint,
        "status": record.status.value,
        "provider_batch_id": record.provider_batch_id,
        "provider_status": record.provider_status,
        "provider_counts": dict(record.provider_counts),
        "total_items": record.total_items,
        "collected_items": record.collected_items,
        "stray_items": record.stray_items,
        "submissions": record.submissions,
        "failures": record.failures,
        "short_reads": record.short_reads,
        "last_error": record.last_error,
        "created_at": iso(record.created_at),
        "created_by": record.created_by,
        "submitted_at": iso(record.submitted_at),
        "polled_at": iso(record.polled_at),
        "next_poll_at": None if record.status.is_terminal else iso(record.next_poll_at),
        "expires_at": iso(record.expires_at),
        "provider_ended_at": iso(record.provider_ended_at),
        "cancel_requested_at": iso(record.cancel_requested_at),
        "cancel_sent_at": iso(record.cancel_sent_at),
        "finished_at": iso(record.finished_at),
    }


def _result_document(result: BatchResult) -> dict[str, Any]:
    return {
        "custom_id": result.custom_id,
        "status": result.status.value,
        "result": result.result,
        "error": result.error,
    }
