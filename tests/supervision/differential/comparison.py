"""What of a trace is promised, and so can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from .script import Path, Script, Trace


def comparable(script: Script, trace: Trace) -> Trace:
    """Return the trace without what nobody promises.

    * In which order the children of a simple_one_for_one supervisor are listed, and end with it.
    * When, and by which reason, what is below a killed supervisor ends: Erlang's links and our kernel each take it
      along, the one after the other or at once.
    """
    supervisors = dict(_supervisors(script))
    dynamic = {path for path, strategy in supervisors.items() if strategy == "simple_one_for_one"}
    killed = {tuple(command[1]) for command in _flat(script["commands"]) if _kills(command, supervisors)}
    orphans, events = [], []
    for event in trace["events"]:
        kind, path = event[0], tuple(event[1])
        if kind == "exit" and any(path[: len(above)] == above and path != above for above in killed):
            orphans.append(path)
        else:
            events.append(event)
    return trace | {
        "events": list(_events(events, dynamic)),
        "orphans": sorted(orphans),
        "results": [_result(result) for result in trace["results"]],
        "children": _children(trace["children"]),
    }


def _flat(commands: list[Any]) -> Iterator[list[Any]]:
    for command in commands:
        if command[0] == "queued":
            yield from _flat(command[1])
        else:
            yield command


def _kills(command: list[Any], supervisors: dict[Path, str]) -> bool:
    return command[0] == "exit" and tuple(command[1]) in supervisors


def _supervisors(script: Script) -> Iterator[tuple[Path, str]]:
    """Yield path and strategy of each supervisor that may come to be."""
    yield from _below((), script["supervisor"])
    for command in _flat(script["commands"]):
        match command:
            case ["at", path, ["start_child", {"supervisor": supervisor, "id": child_id}]]:
                yield from _below((*path, child_id), supervisor)
            case ["start_child", {"supervisor": supervisor, "id": child_id}]:
                yield from _below((child_id,), supervisor)
            case ["change_code", supervisor]:
                yield from _below((), supervisor)


def _below(path: Path, supervisor: Any) -> Iterator[tuple[Path, str]]:
    yield path, supervisor.get("strategy", "one_for_one")
    for child in supervisor.get("children", []):
        if isinstance(child, dict) and "supervisor" in child:
            yield from _below((*path, child.get("id")), child["supervisor"])


def _events(events: list[Any], dynamic: set[Path]) -> Iterator[Any]:
    """Yield the events, with the ends of one dynamic supervisor's children in a row sorted."""

    def dynamic_parent(event: Any) -> Path | None:
        parent = tuple(event[1][:-1])
        return parent if event[0] == "exit" and parent in dynamic else None

    for parent, row in groupby(events, dynamic_parent):
        together = list(row)
        yield from together if parent is None else sorted(together, key=repr)


def _result(result: Any) -> Any:
    """Sort a list of children without ids, wherever it is in a result."""
    if isinstance(result, list):
        return _children(result) if result and _is_nameless(result[0]) else [_result(each) for each in result]
    return result


def _is_nameless(child: Any) -> bool:
    return isinstance(child, list) and len(child) in (3, 4) and child[0] is None


def _children(children: Any) -> Any:
    if not isinstance(children, list):
        return children
    listed = [[*child[:3], _children(child[3])] if len(child) == 4 else child for child in children]
    return sorted(listed, key=repr) if listed and _is_nameless(listed[0]) else listed
