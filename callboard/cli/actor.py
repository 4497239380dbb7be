"""``callboard actor``: the actors of workers that run on this machine, seen and handled over their admin sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from callboard import CallboardError
from callboard.actors.errors import AdminUnavailable
from callboard.supervision import admin_client
from callboard.supervision.admin_messages import AdminRequest, RestartRequest, StopRequest, TreeRequest
from callboard.supervision.admin_sockets import AdminSocket, default_directories, find_sockets

from .actor_tree import print_process
from .command import command, json_option
from .errors import exit_code, report
from .output import print_json
from .settings import load_settings

TREE_SECONDS: Final = 5.0
ACTION_SECONDS: Final = 40.0
"""Longer than a supervisor may take to answer (``Settings.ask_timeout_seconds``), which it then says itself."""


@click.group("actor")
def actor() -> None:
    """Look at the actors of running workers; stop or restart one.

    Workers are found by their admin sockets, those of this user on this machine.
    """


def _selection(default_timeout_seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    options = (
        click.option("--pid", type=click.IntRange(min=1), help="The worker with this process id."),
        click.option(
            "--socket",
            "path",
            type=click.Path(path_type=Path),
            help="The worker behind this admin socket, wherever it is.",
        ),
        click.option(
            "--timeout",
            "timeout_seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=default_timeout_seconds,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for an answer.",
        ),
        json_option,
    )

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@command("tree")
@_selection(TREE_SECONDS)
@click.pass_context
def tree(ctx: click.Context, pid: int | None, path: Path | None, timeout_seconds: float, as_json: bool) -> None:
    """Show supervisors, their children, and what each actor is doing, of all workers or of one."""
    processes, failed = [], None
    for found in _selected(pid, path):
        try:
            process = admin_client.ask(found.path, TreeRequest(), timeout_seconds=timeout_seconds)
        except CallboardError as error:  # the others are worth seeing
            report(error, verbose=False)
            failed = error
        else:
            processes.append({**process, "socket": str(found.path)})
    if as_json:
        print_json({"processes": processes})
    else:
        for index, process in enumerate(processes):
            if index:
                click.echo()
            print_process(process)
    if failed is not None:
        ctx.exit(exit_code(failed))


@command("stop")
@click.argument("name")
@_selection(ACTION_SECONDS)
def stop(name: str, pid: int | None, path: Path | None, timeout_seconds: float, as_json: bool) -> None:
    """End the actor NAME, a supervisor's child, and what depends on it. It stays down until it is restarted.

    NAME is a name or a path, as `callboard actor tree` shows them.
    """
    result = _act(StopRequest(name=name), pid, path, timeout_seconds)
    if as_json:
        print_json(result)
        return
    for each in result["stopped"]:
        click.echo(f"stopped {each}")
    if not result["stopped"]:
        click.echo(f"{result['path']} was stopped already")


@command("restart")
@click.argument("name")
@_selection(ACTION_SECONDS)
def restart(name: str, pid: int | None, path: Path | None, timeout_seconds: float, as_json: bool) -> None:
    """End the actor NAME, a supervisor's child, and what depends on it, and start them again.

    One that is down is started. NAME is a name or a path, as `callboard actor tree` shows them.
    """
    result = _act(RestartRequest(name=name), pid, path, timeout_seconds)
    if as_json:
        print_json(result)
        return
    for each in result["restarted"]:
        click.echo(f"restarted {each}")


def _act(request: AdminRequest, pid: int | None, path: Path | None, timeout_seconds: float) -> dict[str, Any]:
    found = _selected(pid, path)
    if len(found) > 1:
        pids = ", ".join(str(each.pid) for each in found)
        raise click.UsageError(f"several workers run here: {pids}; choose one with --pid")
    return {"pid": found[0].pid, **admin_client.ask(found[0].path, request, timeout_seconds=timeout_seconds)}


def _selected(pid: int | None, path: Path | None) -> list[AdminSocket]:
    """Return the sockets that the options mean, at least one.

    Raises:
        AdminUnavailable: there is none.
    """
    if path is not None:
        if pid is not None:
            raise click.UsageError("--pid and --socket exclude each other: both choose one worker")
        return [AdminSocket(0, path)]
    chosen = load_settings().admin_socket_directory
    directories = default_directories() if chosen is None else [chosen]
    try:
        found = [each for each in find_sockets(directories) if pid in (None, each.pid)]
    except OSError as error:
        raise AdminUnavailable(f"cannot look for workers: {error}") from error
    if not found:
        where = ", ".join(map(str, directories))
        who = "no worker" if pid is None else f"no worker with process id {pid}"
        raise AdminUnavailable(
            f"{who} has an admin socket in {where}. Run this as the worker's user, with its "
            "CALLBOARD_ADMIN_SOCKET_DIRECTORY, or pass --socket"
        )
    return found


for subcommand in (tree, stop, restart):
    actor.add_command(subcommand)
