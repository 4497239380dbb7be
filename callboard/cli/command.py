"""What all commands have in common, and the options that several of them share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import click

VERBOSE: Final = "callboard.verbose"
"""Where a context's ``meta`` says that ``--verbose`` was given."""


class Command(click.Command):
    """A command that has ``--verbose``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_remember_verbose,
                help="Show the traceback of an error.",
            )
        )


def _remember_verbose(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[VERBOSE] = True


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command, like ``click.command``."""
    return click.command(name, cls=Command, **attributes)


def queue_slots(text: str) -> tuple[str, int]:
    """Read ``NAME=SLOTS``: how many jobs of a queue run at a time."""
    name, _, slots = text.rpartition("=")
    if not (name and slots.isascii() and slots.isdigit() and int(slots) > 0):
        raise click.BadParameter(f"got {text!r}, expected a name and how many jobs run at a time: default=100")
    return name, int(slots)


def port_or_none(text: str) -> int | str:
    """Read a port number, or ``none`` (click takes None for an option that was not given)."""
    if text != "none" and not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise click.BadParameter(f"got {text!r}, expected a port from 1 to 65535, 0 for a free one, or none")
    return text if text == "none" else int(text)


_UNITS: Final = {"": 1, "B": 1} | {
    f"{letter}{infix}B": base**power
    for power, letter in enumerate("KMGT", 1)
    for infix, base in (("", 1000), ("i", 1024))
}


def byte_size(text: str) -> int:
    """Read a number of bytes with its unit: ``512MiB``, ``1.5GB``, ``100000000``."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    unit = None if found is None else {name.lower(): size for name, size in _UNITS.items()}.get(found[2].lower())
    size = 0 if found is None or unit is None else int(float(found[1]) * unit)
    if size <= 0:
        raise click.BadParameter(
            f"got {text!r}, expected a number of bytes with a unit of {', '.join(filter(None, _UNITS))}: 512MiB"
        )
    return size


database_url_option = click.option(
    "--database-url",
    metavar="URL",
    help="PostgreSQL URL, instead of CALLBOARD_DATABASE_URL (which other users of the machine cannot see).",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

import_option = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="Import this module first; it defines jobs. Repeatable.",
)

queue_option = click.option(
    "--queue",
    "queues",
    multiple=True,
    type=queue_slots,
    metavar="NAME=SLOTS",
    help="Work on this queue, so many jobs at a time. Repeatable. Default: CALLBOARD_QUEUES, or default=100.",
)

drain_timeout_option = click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long running jobs may take after the first signal. Default: CALLBOARD_DRAIN_TIMEOUT_SECONDS, or 25.",
)

log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Least level that is logged.",
)

log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the log, on stderr.",
)
