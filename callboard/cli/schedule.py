"""``callboard schedule``: list, create, pause, resume, delete schedules; show when they come next."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import click

from callboard import ConfigurationError, Misfire, Schedule, ScheduleRecord
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.spawning import Spawning
from callboard.actors.schedules.calls import new_schedule

from .calls import configured, parse_arguments, parse_keywords
from .command import Command, command, database_url_option, import_option, json_option
from .errors import ExitCode
from .modules import find_job, import_modules
from .moment import iso
from .output import print_json, print_table
from .settings import load_store_settings
from .store import actor, with_store


class _Group(click.Group):
    command_class = Command


_name_argument = click.argument("name", metavar="SCHEDULE")


@click.group("schedule", cls=_Group)
def schedule() -> None:
    """List, create, pause, resume and delete schedules: jobs that are spawned again and again."""


@command("list")
@database_url_option
@json_option
def list_(database_url: str | None, as_json: bool) -> None:
    """List the schedules, by name."""
    records = _read(database_url)
    if as_json:
        print_json({"schedules": [schedule_document(record) for record in records]})
        return
    print_table(
        ["name", "kind", "queue", "when", "source", "state", "next", "last", "last job"],
        (
            [
                record.name,
                record.kind,
                record.queue,
                _when(record.schedule),
                record.source,
                "paused" if record.paused else "active",
                None if record.paused else record.next_fire_at,
                record.last_tick,
                record.last_job_id,
            ]
            for record in records
        ),
    )


# An argument may be a negative number, which would be an unknown option.
@command("create", context_settings={"ignore_unknown_options": True})
@_name_argument
@click.argument("target", metavar="KIND|MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--cron", metavar="TEXT", help="Five fields, or six with the second first: '*/5 * * * *'.")
@click.option("--zone", default="UTC", show_default=True, metavar="ZONE", help="Its time zone: Europe/Berlin.")
@click.option("--every", "interval", type=float, metavar="SECONDS", help="An interval instead.")
@click.option("--jitter", type=float, default=0, metavar="SECONDS", help="Spawn up to so much later, at random.")
@click.option(
    "--misfire",
    type=click.Choice([policy.value for policy in Misfire]),
    default=Misfire.ONCE.value,
    show_default=True,
    help="What becomes of moments that nobody took in time.",
)
@click.option("--grace", type=float, default=60, show_default=True, metavar="SECONDS", help="In time, for skip.")
@click.option("--max-catch-up", type=int, default=100, show_default=True, metavar="N", help="Most jobs, for all.")
@click.option("--kwargs", "keywords", metavar="JSON", help="Keyword arguments, as a JSON object.")
@click.option("-o", "options", multiple=True, metavar="OPTION=VALUE", help="queue=cpu, priority=5, ... Repeatable.")
@click.option("--replace", is_flag=True, help="Take the place of a schedule of this name.")
@import_option
@database_url_option
@json_option
def create(
    name: str,
    target: str,
    arguments: tuple[str, ...],
    keywords: str | None,
    options: tuple[str, ...],
    replace: bool,
    imports: tuple[str, ...],
    database_url: str | None,
    as_json: bool,
    **when: Any,
) -> None:
    """Spawn a job again and again from now on, with ARGUMENTs as for `callboard job spawn`.

    They are validated by the function's signature, so its module is imported: by MODULE:FUNCTION, or by --import.
    """
    recurring = _schedule(**when)
    args, kwargs = parse_arguments(arguments), parse_keywords(keywords)
    settings = load_store_settings(database_url)
    import_modules(imports)
    spawning = Spawning(
        uuid7.many,
        payload_limit_bytes=settings.payload_limit_bytes,
        callback_trusted_hosts=settings.callback_trusted_hosts,
    )
    new = new_schedule(spawning, name, configured(find_job(target), options), recurring, args, kwargs)

    async def put(store: JobStore) -> list[ScheduleRecord]:
        await store.schedules.put(new, actor=actor(settings), replace=replace)
        return await store.schedules.read()

    [record] = [record for record in with_store(settings, put) if record.name == name]
    if as_json:
        print_json(schedule_document(record))
    else:
        click.echo(f"{name} spawns {record.kind} {_when(record.schedule)}, next {iso(record.next_fire_at)}")


def _schedule(
    cron: str | None,
    zone: str,
    interval: float | None,
    jitter: float,
    misfire: str,
    grace: float,
    max_catch_up: int,
) -> Schedule:
    try:
        return Schedule(
            cron,
            zone=zone,
            interval_seconds=interval,
            jitter_seconds=jitter,
            misfire=Misfire(misfire),
            misfire_grace_seconds=grace,
            max_catch_up=max_catch_up,
        )
    except ConfigurationError as error:
        raise click.UsageError(f"--cron, --every: {error}") from error


@command("pause")
@_name_argument
@database_url_option
@json_option
@click.pass_context
def pause(ctx: click.Context, name: str, database_url: str | None, as_json: bool) -> None:
    """Let a schedule spawn nothing. What would come meanwhile is left out. Exit code 1 if there is no such schedule."""
    _set_paused(ctx, name, database_url, as_json, paused=True)


@command("resume")
@_name_argument
@database_url_option
@json_option
@click.pass_context
def resume(ctx: click.Context, name: str, database_url: str | None, as_json: bool) -> None:
    """Let a paused schedule go on from now. Exit code 1 if there is no such schedule."""
    _set_paused(ctx, name, database_url, as_json, paused=False)


def _set_paused(ctx: click.Context, name: str, database_url: str | None, as_json: bool, *, paused: bool) -> None:
    settings = load_store_settings(database_url)
    found = with_store(settings, lambda store: store.schedules.set_paused(name, paused=paused, actor=actor(settings)))
    if as_json:
        print_json({"schedule": name, "found": found, "paused": paused if found else None})
    else:
        click.echo(f"{name} {('is paused' if paused else 'goes on') if found else 'does not exist'}")
    if not found:
        ctx.exit(ExitCode.FAILED)


@command("delete")
@_name_argument
@database_url_option
@json_option
@click.pass_context
def delete(ctx: click.Context, name: str, database_url: str | None, as_json: bool) -> None:
    """Delete a schedule. Exit code 1 if there was none.

    One that comes from code is back with the next start of a worker that has it: pause it, or change the code.
    """

    async def remove(store: JobStore) -> bool:
        return await store.schedules.delete(name)

    deleted = with_store(load_store_settings(database_url), remove)
    if as_json:
        print_json({"schedule": name, "deleted": deleted})
    else:
        click.echo(f"{name} {'is deleted' if deleted else 'does not exist'}")
    if not deleted:
        ctx.exit(ExitCode.FAILED)


@command("next")
@click.argument("name", metavar="[SCHEDULE]", required=False)
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many of each.")
@database_url_option
@json_option
@click.pass_context
def next_(ctx: click.Context, name: str | None, count: int, database_url: str | None, as_json: bool) -> None:
    """Show the next moments of one schedule, or of all; a paused one has none. Exit code 1 if there is no such one."""
    records = [record for record in _read(database_url) if name in {None, record.name}]
    documents = [
        {
            "schedule": record.name,
            "zone": record.schedule.zone,
            "next": [
                {"at": iso(tick), "local": tick.astimezone(ZoneInfo(record.schedule.zone)).isoformat()}
                for tick in record.upcoming(count)
            ],
        }
        for record in records
    ]
    if as_json:
        print_json({"schedules": documents})
    else:
        rows = ([one["schedule"], tick["at"], tick["local"]] for one in documents for tick in one["next"])  # type: ignore[index]
        print_table(["schedule", "at", "local"], rows)
    if name is not None and not records:
        ctx.exit(ExitCode.FAILED)


for _command in (list_, create, pause, resume, delete, next_):
    schedule.add_command(_command)


def _read(database_url: str | None) -> list[ScheduleRecord]:
    return with_store(load_store_settings(database_url), lambda store: store.schedules.read())


def _when(recurring: Schedule) -> str:
    if recurring.interval_seconds is not None:
        return f"every {recurring.interval_seconds:g} s"
    return f"at {recurring.cron}" + ("" if recurring.zone == "UTC" else f" ({recurring.zone})")


def schedule_document(record: ScheduleRecord) -> dict[str, Any]:
    """Return a schedule as a JSON document."""
    when = record.schedule
    return {
        "name": record.name,
        "kind": record.kind,
        "queue": record.queue,
        "cron": when.cron,
        "zone": when.zone if when.cron is not None else None,
        "interval_seconds": when.interval_seconds,
        "jitter_seconds": when.jitter_seconds,
        "misfire": when.misfire.value,
        "misfire_grace_seconds": when.misfire_grace_seconds,
        "max_catch_up": when.max_catch_up,
        "arguments": json.loads(record.arguments),
        "options": json.loads(record.options),
        "source": record.source.value,
        "paused": record.paused,
        "next_tick": iso(record.next_tick),
        "next_fire_at": iso(record.next_fire_at),
        "last_tick": iso(record.last_tick),
        "last_job_id": None if record.last_job_id is None else str(record.last_job_id),
        "changed_at": iso(record.changed_at),
        "changed_by": record.changed_by,
    }
