"""``callboard limit``: list, set and clear limits."""

from __future__ import annotations

from typing import Any

import click

from callboard import ConfigurationError, Limit, LimitScope
from callboard.actors.job_store import JobStore

from .command import Command, command, database_url_option, json_option
from .errors import ExitCode
from .output import print_json, print_table
from .settings import load_store_settings
from .store import actor, with_store


class _Group(click.Group):
    command_class = Command


_scope_argument = click.argument("scope", type=click.Choice([scope.value for scope in LimitScope]))
_name_argument = click.argument("name", metavar="NAME|'*'")


@click.group("limit", cls=_Group)
def limit() -> None:
    """List, set and clear limits on what runs and on what waits, exact over all nodes."""


@command("list")
@database_url_option
@json_option
def list_(database_url: str | None, as_json: bool) -> None:
    """List the limits that are set."""
    controls = with_store(load_store_settings(database_url), lambda store: store.controls.read())
    documents = [limit_document(one) for one in controls.limits]
    if as_json:
        print_json({"limits": documents})
        return
    columns = ["scope", "name", "max_running", "max_queued", "rate", "rate_period_seconds"]
    print_table(
        [column.replace("_", " ") for column in columns], ([row[column] for column in columns] for row in documents)
    )


@command("set")
@_scope_argument
@_name_argument
@click.option("--max-running", type=click.IntRange(min=0), metavar="N", help="Most jobs that run at a time.")
@click.option("--max-queued", type=click.IntRange(min=0), metavar="N", help="Most jobs that wait (queues, owners).")
@click.option("--rate", type=click.IntRange(min=0), metavar="N", help="Most starts in one period.")
@click.option("--per", "period", type=click.FloatRange(min=1), default=1, metavar="SECONDS", help="The rate's period.")
@database_url_option
@json_option
def set_(
    scope: str,
    name: str,
    max_running: int | None,
    max_queued: int | None,
    rate: int | None,
    period: float,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Set the limit of one queue, kind, owner or concurrency key, in the place of an earlier one.

    '*' is for each of them that has no limit of its own. What runs counts from the start, and goes on.
    """
    try:
        wanted = Limit(LimitScope(scope), name, max_running, max_queued, rate, period)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    settings = load_store_settings(database_url)
    with_store(settings, lambda store: store.controls.set_limit(wanted, actor=actor(settings)))
    if as_json:
        print_json(limit_document(wanted))
    else:
        click.echo(f"{wanted} is limited: {_bounds(wanted)}")


@command("clear")
@_scope_argument
@_name_argument
@database_url_option
@json_option
@click.pass_context
def clear(ctx: click.Context, scope: str, name: str, database_url: str | None, as_json: bool) -> None:
    """Remove a limit. Exit code 1 if there was none."""

    async def remove(store: JobStore) -> bool:
        return await store.controls.clear_limit(LimitScope(scope), name)

    cleared = with_store(load_store_settings(database_url), remove)
    if as_json:
        print_json({"scope": scope, "name": name, "cleared": cleared})
    else:
        click.echo(f"{scope} {name} {'has no limit any more' if cleared else 'had no limit'}")
    if not cleared:
        ctx.exit(ExitCode.FAILED)


for _command in (list_, set_, clear):
    limit.add_command(_command)


def limit_document(one: Limit) -> dict[str, Any]:
    """Return a limit as a JSON document."""
    return {
        "scope": one.scope.value,
        "name": one.name,
        "max_running": one.max_running,
        "max_queued": one.max_queued,
        "rate": one.rate,
        "rate_period_seconds": None if one.rate is None else one.rate_period_seconds,
    }


def _bounds(one: Limit) -> str:
    bounds = []
    if one.max_running is not None:
        bounds.append(f"{one.max_running} running")
    if one.max_queued is not None:
        bounds.append(f"{one.max_queued} queued")
    if one.rate is not None:
        bounds.append(f"{one.rate} starts in {one.rate_period_seconds:g} s")
    return ", ".join(bounds)
