"""``callboard demo``."""

from __future__ import annotations

import click

from .command import command, database_url_option, json_option
from .settings import load_settings


@command("demo")
@click.option("--packages", type=click.IntRange(min=1), metavar="N", help="Read only N packages. Default: all.")
@database_url_option
@json_option
@click.pass_context
def demo(ctx: click.Context, packages: int | None, database_url: str | None, as_json: bool) -> None:
    """Read this Python's standard library with jobs, and check the result.

    Without a database URL a private PostgreSQL is started, and removed at the end. Exit code 0 if every job ended as it
    should and the totals are right, 1 if not.
    """
    from callboard.demo.main import run  # its jobs register themselves when imported: no other command wants them

    ctx.exit(run(load_settings(database_url), json_output=as_json, package_limit=packages))
