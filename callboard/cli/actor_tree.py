"""How a process's actors look: a tree, one actor a line."""

from __future__ import annotations

import sys
from typing import Any, Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from .output import printable

_UNLIMITED_WIDTH: Final = 100_000
_STATE_STYLES: Final = {"running": "green", "starting": "cyan", "restarting": "yellow", "stopped": "red"}


def print_process(process: dict[str, Any]) -> None:
    """Print one process of ``callboard actor tree``, as its admin socket described it."""
    tree = Tree(_heading(process), guide_style="dim")
    for actor in process["actors"]:
        _add(tree, actor)
    console = Console(highlight=False, width=_UNLIMITED_WIDTH, no_color=None if sys.stdout.isatty() else True)
    console.print(tree, soft_wrap=True)


def _heading(process: dict[str, Any]) -> Text:
    return Text.assemble(
        (f"process {process['pid']}", "bold"), f"  {printable(process['node'])}, since {process['started_at']}"
    )


def _add(tree: Tree, actor: dict[str, Any]) -> None:
    branch = tree.add(_line(actor))
    for child in actor["children"]:
        _add(branch, child)
    if actor["children_omitted"]:
        branch.add(Text(f"... and {actor['children_omitted']} more", style="dim"))


def _line(actor: dict[str, Any]) -> Text:
    name, kind = printable(actor["name"]), printable(actor["type"])
    line = Text(name, style="bold" if actor["strategy"] else "")
    if kind != name:
        line.append(f"  {kind}", style="dim")
    if actor["strategy"]:
        line.append(f" {actor['strategy']}", style="dim")
    line.append(f"  {actor['state']}", style=_STATE_STYLES.get(actor["state"], "magenta"))
    for detail in _details(actor):
        line.append(f"  {detail}")
    return line


def _details(actor: dict[str, Any]) -> list[str]:
    details = []
    if actor["label"]:
        details.append(printable(actor["label"]))
    if actor["restarts"]:
        details.append(f"restarts {actor['restarts']}")
    if actor["mailbox_depth"]:
        details.append(f"mailbox {actor['mailbox_depth']}")
    if actor["handling"]:
        seconds = actor["handling_seconds"]
        details.append(f"handles {printable(actor['handling'])}" + (f" for {seconds:.1f} s" if seconds else ""))
    if not actor["answers"]:
        details.append("busy: its children that are down are not shown")
    return details
