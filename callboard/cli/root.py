"""The command ``callboard`` itself: its subcommands, and what happens when one fails."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import click

from callboard import CallboardError

from .actor import actor
from .batch import batch
from .callback import callback
from .command import VERBOSE, Command
from .demo import demo
from .dev import dev
from .errors import ExitCode, exit_code, report
from .job import job
from .leader import leader
from .limit import limit
from .migrate import migrate
from .queue import queue
from .schedule import schedule
from .status import status
from .worker import worker


class Root(click.Group):
    """A group whose commands' errors become one line on stderr and an exit code."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; end with the code of the error that it raises."""
        try:
            return super().invoke(ctx)
        except CallboardError as error:
            report(error, verbose=ctx.meta.get(VERBOSE, False))
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(ExitCode.INTERRUPTED)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("callboard"), message="callboard %(version)s")
def main() -> None:
    """Background jobs as actors, on PostgreSQL.

    Every setting has an environment variable CALLBOARD_...; an option wins over it. The database is the one of
    CALLBOARD_DATABASE_URL, or of --database-url.
    """


for command in (demo, dev, worker, migrate, status, job, schedule, callback, queue, limit, batch, leader, actor):
    main.add_command(command)
