"""``callboard leader``: who leads, and asking for another."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click

from callboard import StoreUnavailable
from callboard.actors.errors import NotLeader
from callboard.actors.leadership import LeaderRecord
from callboard.actors.ports import LeaderLock, NoTelemetry
from callboard.persistence import stores

from .command import Command, command, database_url_option, json_option
from .moment import iso
from .output import print_fields, print_json
from .settings import load_store_settings

STEP_DOWN_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.1


class _Group(click.Group):
    command_class = Command


@click.group("leader", cls=_Group)
def leader() -> None:
    """Show the leader, or let it hand over."""


@command("show")
@database_url_option
@json_option
def show(database_url: str | None, as_json: bool) -> None:
    """Show which node leads, in which term, since when, and when it last gave a sign of life."""
    document = leader_document(asyncio.run(_lock(database_url).read()))
    if as_json:
        print_json(document)
        return
    if document["leader"] is None:
        click.echo(f"nobody leads; the last term was {document['term']}")
    print_fields((name.replace("_", " "), value) for name, value in document.items())


@command("step-down")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=STEP_DOWN_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the next leader.",
)
@database_url_option
@json_option
def step_down(timeout_seconds: float, database_url: str | None, as_json: bool) -> None:
    """Let the leader end what it does and hand over; wait for the next one. A node that is alone leads again."""
    before, after = asyncio.run(_change(_lock(database_url), timeout_seconds))
    if as_json:
        print_json({"stepped_down": before.holder, **leader_document(after)})
    else:
        click.echo(f"{before.holder} handed over; {after.holder} leads, term {after.term}")


for _command in (show, step_down):
    leader.add_command(_command)


def leader_document(record: LeaderRecord) -> dict[str, Any]:
    """Return who leads as a JSON document."""
    return {
        "leader": record.holder,
        "term": record.term,
        "acquired_at": iso(record.acquired_at),
        "heartbeat_at": iso(record.heartbeat_at),
        "silent_seconds": None if record.silent_seconds is None else round(record.silent_seconds, 3),
        "silence_limit_seconds": record.silence_limit_seconds,
        "lock_held": record.lock_held,
        "standbys": record.standbys,
    }


async def _change(lock: LeaderLock, timeout_seconds: float) -> tuple[LeaderRecord, LeaderRecord]:
    """Ask the leader to step down; return what was before and what is after."""
    before = await lock.read()
    asked = await lock.ask_to_step_down()
    if asked is None:
        raise NotLeader(
            f"nobody leads (the last term was {before.term}): start a worker, or wait for the next election"
        )
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                after = await lock.read()
                if after.term > asked and after.holder is not None:
                    return before, after
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise StoreUnavailable(
            f"{before.holder} was asked to hand over term {asked}, and no other has begun within "
            f"{timeout_seconds:g} s; `callboard leader show` tells whether one does later"
        ) from None


def _lock(database_url: str | None) -> LeaderLock:
    return stores.postgres(load_store_settings(database_url), NoTelemetry()).leader_lock
