"""``callboard job``: list, show, spawn, cancel, retry."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from callboard import HistoryRow, JobFilter, JobNotFound, JobRecord, Status
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.spawning import Spawning
from callboard.actors.jobs.state import WaitingOn
from callboard.actors.jobs.types import Applied, JsonScalar, Refused

from .calls import configured, parse_arguments, parse_keywords, parse_metadata
from .command import Command, command, database_url_option, import_option, json_option
from .documents import error_count_document, history_document, job_document, job_summary
from .errors import ExitCode
from .modules import find_job, import_modules
from .moment import iso
from .output import print_fields, print_json, print_table, printable
from .retrying import Retried, RetryOutcome, replay, retry
from .settings import load_store_settings
from .store import actor, with_store

_SHOWN_ERROR_CHARACTERS = 80
_ids_argument = click.argument("job_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")


_kind_option = click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Repeatable: any of them.")
_queue_option = click.option("--queue", "queues", multiple=True, metavar="QUEUE", help="Repeatable: any of them.")
_tag_option = click.option("--tag", "tags", multiple=True, metavar="TAG", help="Repeatable: all of them.")
_error_option = click.option(
    "--error", "error_types", multiple=True, metavar="TYPE", help="The exception's name. Repeatable: any of them."
)
_metadata_option = click.option(
    "--metadata",
    multiple=True,
    type=parse_metadata,
    metavar="NAME=VALUE",
    help="VALUE is JSON, or else a text. Repeatable: all of them.",
)


class _Group(click.Group):
    command_class = Command


@click.group("job", cls=_Group)
def job() -> None:
    """List, show, spawn, cancel and retry jobs."""


@command("list")
@click.option("--status", "statuses", multiple=True, type=click.Choice([status.value for status in Status]))
@_kind_option
@_queue_option
@_tag_option
@click.option("--owner", metavar="OWNER")
@click.option("--waiting-on", type=click.Choice([what.value for what in WaitingOn]), help="What they are parked for.")
@_metadata_option
@_error_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--before", type=click.UUID, metavar="ID", help="Continue after this job, the last one of a page.")
@database_url_option
@json_option
def list_(
    statuses: tuple[str, ...],
    kinds: tuple[str, ...],
    queues: tuple[str, ...],
    tags: tuple[str, ...],
    owner: str | None,
    waiting_on: str | None,
    metadata: tuple[tuple[str, JsonScalar], ...],
    error_types: tuple[str, ...],
    limit: int,
    before: UUID | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    where = JobFilter(
        statuses=tuple(map(Status, statuses)),
        kinds=kinds,
        queues=queues,
        tags=tags,
        owner=owner,
        waiting_on=None if waiting_on is None else WaitingOn(waiting_on),
        metadata=dict(metadata),
        error_types=error_types,
    )
    found = with_store(
        load_store_settings(database_url), lambda store: store.list_jobs(where, limit=limit + 1, before=before)
    )
    records, more = found[:limit], len(found) > limit
    if as_json:
        next_before = str(records[-1].id) if more else None
        print_json({"jobs": [job_summary(record) for record in records], "next_before": next_before})
        return
    print_table(
        ["id", "status", "kind", "queue", "attempt", "created", "finished", "detail"],
        (
            [
                record.id,
                record.status,
                record.kind,
                record.queue,
                f"{record.attempt}/{record.max_attempts}",
                record.created_at,
                record.finished_at,
                _detail(record),
            ]
            for record in records
        ),
    )
    if more:
        click.echo(f"There are more: --before {records[-1].id}", err=True)


@command("show")
@click.argument("job_id", type=click.UUID, metavar="ID")
@database_url_option
@json_option
def show(job_id: UUID, database_url: str | None, as_json: bool) -> None:
    """Show everything that is stored about a job, and its history."""

    async def read(store: JobStore) -> tuple[JobRecord, list[HistoryRow]]:
        record = await store.get(job_id)
        if record is None:
            raise JobNotFound(job_id)
        return record, await store.history(job_id)

    record, history = with_store(load_store_settings(database_url), read)
    document = job_document(record)
    if as_json:
        print_json({"job": document, "history": [history_document(row) for row in history]})
        return
    error = document.pop("error")
    print_fields(document.items())
    if error is not None:
        click.echo(printable(f"error: {error['type']}: {error['message']}"))
        click.echo(printable(error.get("traceback") or "", keep_lines=True), nl=False)
    click.echo()
    print_table(
        ["at", "from", "to", "attempt", "reason", "by"],
        ([row.at, row.from_status, row.to_status, row.attempt, row.reason, row.actor] for row in history),
    )


# An argument may be a negative number, which would be an unknown option.
@command("spawn", context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="KIND|MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--kwargs", "keywords", metavar="JSON", help="Keyword arguments, as a JSON object.")
@click.option(
    "-o", "options", multiple=True, metavar="OPTION=VALUE", help="queue=cpu, delay_seconds=60, ... Repeatable."
)
@import_option
@database_url_option
@json_option
def spawn(
    target: str,
    arguments: tuple[str, ...],
    keywords: str | None,
    options: tuple[str, ...],
    imports: tuple[str, ...],
    database_url: str | None,
    as_json: bool,
) -> None:
    """Spawn a job with ARGUMENTs, each of them JSON: 42, '"text"', '[1, 2]'.

    They are validated by the function's signature, so its module is imported: by MODULE:FUNCTION, or by --import.
    """
    args, kwargs = parse_arguments(arguments), parse_keywords(keywords)
    settings = load_store_settings(database_url)
    import_modules(imports)
    definition = configured(find_job(target), options)
    row = Spawning(
        uuid7.many,
        payload_limit_bytes=settings.payload_limit_bytes,
        callback_trusted_hosts=settings.callback_trusted_hosts,
    ).one(definition, args, kwargs)
    (spawned,) = with_store(settings, lambda store: store.spawn([row], actor=actor(settings)))
    if as_json:
        print_json({"id": str(spawned.id), "kind": row.kind, "queue": row.queue, "created": spawned.created})
    elif spawned.created:
        click.echo(f"{spawned.id} spawned: {row.kind}, queue {row.queue}, {row.status}")
    else:
        click.echo(
            f"{spawned.id} exists: an unfinished {row.kind} with unique_key {row.unique_key!r}; nothing was spawned"
        )


@command("cancel")
@_ids_argument
@database_url_option
@json_option
@click.pass_context
def cancel(ctx: click.Context, job_ids: tuple[UUID, ...], database_url: str | None, as_json: bool) -> None:
    """Cancel jobs, whatever they are doing. It is final in the database when this returns.

    Exit code 1 if one of them does not exist, or has completed or failed before.
    """
    settings, wanted = load_store_settings(database_url), list(dict.fromkeys(job_ids))
    answers = with_store(settings, lambda store: store.cancel(wanted, actor=actor(settings)))
    documents = [_cancel_document(answer) for answer in answers]
    if as_json:
        print_json({"jobs": documents})
    else:
        for document in documents:
            click.echo(f"{document['id']} {_CANCEL_WORDS[document['outcome']].format(**document)}")
    if not all(document["status"] == Status.CANCELLED for document in documents):
        ctx.exit(ExitCode.FAILED)


@command("retry")
@_ids_argument
@database_url_option
@json_option
@click.pass_context
def retry_(ctx: click.Context, job_ids: tuple[UUID, ...], database_url: str | None, as_json: bool) -> None:
    """Run jobs again, or sooner.

    An ended job is final, so a copy of it is spawned: same kind, queue, arguments and options, with "retry_of" in its
    metadata. A job that waits for its time runs now. Exit code 1 if there is one with which neither can be done.
    """
    settings = load_store_settings(database_url)
    retried = with_store(settings, lambda store: retry(store, job_ids, new_id=uuid7, actor=actor(settings)))
    if as_json:
        print_json({"jobs": [_retry_document(one) for one in retried]})
    else:
        for one in retried:
            click.echo(f"{one.job_id} {_RETRY_WORDS[one.outcome].format(new_id=one.new_id)}")
    if not all(one.outcome.done for one in retried):
        ctx.exit(ExitCode.FAILED)


@command("errors")
@_kind_option
@_queue_option
@click.option("--all", "with_retried", is_flag=True, help="Those too of which there is a copy already.")
@database_url_option
@json_option
def errors(
    kinds: tuple[str, ...], queues: tuple[str, ...], with_retried: bool, database_url: str | None, as_json: bool
) -> None:
    """List what has failed and was not retried, counted by kind, queue and error: the dead letters."""
    where = JobFilter(kinds=kinds, queues=queues, retried=None if with_retried else False)
    counts = with_store(load_store_settings(database_url), lambda store: store.errors(where))
    if as_json:
        print_json({"errors": [error_count_document(count) for count in counts]})
        return
    print_table(
        ["jobs", "kind", "queue", "error", "latest", "latest id"],
        ([one.jobs, one.kind, one.queue, one.error_type, one.latest_at, one.latest_id] for one in counts),
    )


@command("replay")
@_kind_option
@_queue_option
@_tag_option
@click.option("--owner", metavar="OWNER")
@_error_option
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.option("--all", "everything", is_flag=True, help="Needed where no other option says which.")
@database_url_option
@json_option
def replay_(
    kinds: tuple[str, ...],
    queues: tuple[str, ...],
    tags: tuple[str, ...],
    owner: str | None,
    error_types: tuple[str, ...],
    limit: int,
    everything: bool,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Run failed jobs again that were not retried yet: a copy of each is spawned, as by `job retry`."""
    where = JobFilter(kinds=kinds, queues=queues, tags=tags, owner=owner, error_types=error_types)
    if where == JobFilter() and not everything:
        raise click.UsageError("say which: --kind, --queue, --tag, --owner or --error; or --all")
    settings = load_store_settings(database_url)
    replayed = with_store(
        settings, lambda store: replay(store, where, limit=limit, new_id=uuid7, actor=actor(settings))
    )
    if as_json:
        print_json({"jobs": [_retry_document(one) for one in replayed]})
        return
    copied = sum(one.outcome is RetryOutcome.COPIED for one in replayed)
    click.echo(f"{copied} failed jobs were replayed")
    if copied < len(replayed):
        click.echo(f"{len(replayed) - copied} were not: unfinished jobs have their unique keys", err=True)


for _command in (list_, show, spawn, cancel, retry_, errors, replay_):
    job.add_command(_command)


_CANCEL_WORDS = {
    "cancelled": "is cancelled",
    "ended_before": "had ended before: {status}",
    "not_found": "does not exist",
}
_RETRY_WORDS = {
    RetryOutcome.COPIED: "has ended, which is final: its copy {new_id} is queued",
    RetryOutcome.COPY_EXISTS: "has ended; {new_id} is unfinished and has its unique key, so no copy was made",
    RetryOutcome.RUNS_NOW: "waited for its time: it is runnable now",
    RetryOutcome.ALREADY_RUNNABLE: "is runnable already",
    RetryOutcome.WAITS_FOR_REPLY: "waits for a model's reply: `callboard batch list` shows the batches",
    RetryOutcome.WAITS_FOR_CHILDREN: "waits for its children: retry those that hold it up",
    RetryOutcome.RUNNING: "is running; cancel it first",
    RetryOutcome.HELD: "is held until your code releases it (JobRef.release)",
    RetryOutcome.NOT_FOUND: "does not exist",
}


def _cancel_document(answer: Applied | Refused) -> dict[str, Any]:
    if isinstance(answer, Applied):
        return {"id": str(answer.job_id), "outcome": "cancelled", "status": answer.status.value}
    if answer.actual_status is None:
        return {"id": str(answer.job_id), "outcome": "not_found", "status": None}
    return {"id": str(answer.job_id), "outcome": "ended_before", "status": answer.actual_status.value}


def _retry_document(retried: Retried) -> dict[str, Any]:
    new_id = None if retried.new_id is None else str(retried.new_id)
    return {"id": str(retried.job_id), "outcome": retried.outcome.value, "new_id": new_id}


def _detail(record: JobRecord) -> str:
    """Say the one thing that matters about a job in its status."""
    match record.status:
        case Status.PENDING if record.waiting_on is not None:
            return f"waits for its {record.waiting_on.replace('_', ' ')}"
        case Status.PENDING if record.run_at > record.created_at:
            return f"not before {iso(record.run_at)}"
        case Status.RUNNING:
            return f"on {record.node}"
        case Status.FAILED | Status.CANCELLED if record.error is not None:
            return f"{record.error['type']}: {record.error['message']}"[:_SHOWN_ERROR_CHARACTERS]
        case Status.FAILED:
            return record.stop_reason or ""
        case _:
            return ""
