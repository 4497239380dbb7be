"""``callboard callback``: list callbacks, replay those that nobody could deliver."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.types import CallbackRecord
from callboard.actors.job_store import JobStore

from .command import Command, command, database_url_option, json_option
from .errors import ExitCode
from .moment import iso
from .output import print_json, print_table
from .settings import load_store_settings
from .store import with_store

_REPLAYED_AT_MOST = 10_000


class _Group(click.Group):
    command_class = Command


@click.group("callback", cls=_Group)
def callback() -> None:
    """List callbacks, and deliver dead ones after all."""


@command("list")
@click.option("--state", type=click.Choice([state.value for state in CallbackState]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@database_url_option
@json_option
def list_(state: str | None, limit: int, database_url: str | None, as_json: bool) -> None:
    """List callbacks of jobs that have ended, the newest jobs first."""
    wanted = None if state is None else CallbackState(state)
    found = with_store(load_store_settings(database_url), lambda store: store.callbacks.read(wanted, limit=limit))
    documents = [callback_document(one) for one in found]
    if as_json:
        print_json({"callbacks": documents})
        return
    columns = ["job_id", "state", "attempts", "status_code", "sent_at", "next_attempt_at", "url", "error"]
    print_table(
        [column.replace("_", " ") for column in columns], ([one[column] for column in columns] for one in documents)
    )


@command("replay")
@click.argument("job_ids", nargs=-1, type=click.UUID, metavar="[JOB_ID]...")
@click.option("--dead", is_flag=True, help="All that are dead.")
@database_url_option
@json_option
@click.pass_context
def replay(ctx: click.Context, job_ids: tuple[UUID, ...], dead: bool, database_url: str | None, as_json: bool) -> None:
    """Deliver callbacks again, with the id that they had. Exit code 1 if one waits anyway, or does not exist."""
    if bool(job_ids) == dead:
        raise click.UsageError("expected ids of jobs, or --dead for all that are dead")

    async def again(store: JobStore) -> tuple[list[UUID], list[UUID]]:
        wanted = list(dict.fromkeys(job_ids))
        if dead:
            wanted = [one.job_id for one in await store.callbacks.read(CallbackState.DEAD, limit=_REPLAYED_AT_MOST)]
        return wanted, await store.callbacks.replay(wanted)

    wanted, replayed = with_store(load_store_settings(database_url), again)
    documents = [{"job_id": str(job_id), "replayed": job_id in replayed} for job_id in wanted]
    if as_json:
        print_json({"callbacks": documents})
    else:
        for one in documents:
            click.echo(
                f"{one['job_id']} {'is delivered again' if one['replayed'] else 'waits anyway, or does not exist'}"
            )
    if len(replayed) < len(wanted):
        ctx.exit(ExitCode.FAILED)


for _command in (list_, replay):
    callback.add_command(_command)


def callback_document(one: CallbackRecord) -> dict[str, Any]:
    """Return a callback as a JSON document."""
    return {
        "job_id": str(one.job_id),
        "url": one.url,
        "state": one.state.value,
        "attempts": one.attempts,
        "next_attempt_at": iso(one.next_attempt_at),
        "sent_at": iso(one.sent_at),
        "status_code": one.status_code,
        "error": one.error,
    }
