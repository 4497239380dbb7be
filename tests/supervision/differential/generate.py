"""Random scripts (script.py), as strategies of hypothesis. What a child is shows in its id.

Left out is what has no answer, or another one each time: what an orphan does whose supervisor was killed (one that
lingers stays for ever, in Erlang), and what a supervisor does while the top one is not allowed to do anything.
Left out is also ``ignore`` at the restart of a dynamic child: there OTP keeps a child that is none (erlang/otp#8230).
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

WORKERS = ["a", "b", "c", "d"]
SUPERVISORS = ["s", "t"]
DYNAMIC_SUPERVISORS = ["y"]
DYNAMIC_CHILDREN = ["p", "q", "r"]
IDS = [*WORKERS, *SUPERVISORS, *DYNAMIC_SUPERVISORS]
REASONS = ["normal", "shutdown", ["shutdown", "text"], "crash", "kill"]
RESTARTS = ["permanent", "transient", "temporary"]
STARTS = ["ok", "ok", "ok", "error", "ignore", "info", "raise"]
DYNAMIC_STARTS = ["ok", "ok", "error", "info", "raise"]
STOPS = ["obey", "obey", "obey", "normal", "fail", "linger"]
LONG_PERIOD_SECONDS = 1000
"""Long enough that nothing is forgotten while a script runs: Erlang's clock cannot be moved."""
LEVELS = 2
"""How many levels of supervisors there are below the top one."""

Data = dict[str, Any]
Command = list[Any]


# Specifications


def children(child_id: str, auto_shutdown: str, depth: int) -> st.SearchStrategy[Data]:
    """Return valid specifications with this id."""
    if child_id in SUPERVISORS:
        return _nested(child_id, auto_shutdown, supervisors(depth - 1))
    if child_id in DYNAMIC_SUPERVISORS:
        return _nested(child_id, auto_shutdown, dynamic_supervisors())
    return st.fixed_dictionaries(
        {"id": st.just(child_id)},
        optional={
            "restart": st.sampled_from(RESTARTS),
            "shutdown": st.sampled_from([20, 20, "infinity", "brutal_kill"]),
            "starts": st.lists(st.sampled_from(STARTS), min_size=1, max_size=4),
            "stop": st.sampled_from(STOPS),
            "significant": st.booleans(),
            "type": st.just("worker"),
        },
    ).map(lambda child: _sound(child, auto_shutdown))


def _nested(child_id: str, auto_shutdown: str, supervisor: st.SearchStrategy[Data]) -> st.SearchStrategy[Data]:
    return st.fixed_dictionaries(
        {"id": st.just(child_id), "type": st.just("supervisor"), "supervisor": supervisor},
        optional={"restart": st.sampled_from(RESTARTS), "significant": st.booleans()},
    ).map(lambda child: _sound(child, auto_shutdown))


def _sound(child: Data, auto_shutdown: str) -> Data:
    """Make a child possible: one that never stops has a limit; a significant one may be that."""
    if child.get("stop") == "linger" and child.get("shutdown", "infinity") == "infinity":
        child = {**child, "shutdown": 20}
    if child.get("significant") and (auto_shutdown == "never" or child.get("restart", "permanent") == "permanent"):
        child = {**child, "significant": False}
    return child


def _ids(depth: int) -> list[str]:
    return IDS if depth else WORKERS


@st.composite
def supervisors(draw: st.DrawFn, depth: int = LEVELS) -> Data:
    """A supervisor with flags and children that are valid."""
    auto_shutdown = draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
    ids = draw(st.lists(st.sampled_from(_ids(depth)), unique=True, max_size=4))
    supervisor: Data = {
        "strategy": draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])),
        "intensity": draw(st.integers(0, 4)),
        "period": LONG_PERIOD_SECONDS,
        "auto_shutdown": auto_shutdown,
        "children": [draw(children(each, auto_shutdown, depth)) for each in ids],
    }
    if draw(st.integers(0, 30)) == 0:
        supervisor["init"] = draw(st.sampled_from(["ignore", "crash"]))
    return supervisor


@st.composite
def dynamic_supervisors(draw: st.DrawFn) -> Data:
    """A simple_one_for_one supervisor."""
    auto_shutdown = draw(st.sampled_from(["never", "any_significant", "all_significant"]))
    child = draw(children("each", auto_shutdown, 0))
    child.pop("starts", None)
    return {
        "strategy": "simple_one_for_one",
        "intensity": draw(st.integers(0, 4)),
        "period": LONG_PERIOD_SECONDS,
        "auto_shutdown": auto_shutdown,
        "children": [child],
    }


# Commands


def _exits(paths: list[list[str]], reasons: list[Any]) -> st.SearchStrategy[Command]:
    return st.tuples(st.just("exit"), st.sampled_from(paths), st.sampled_from(reasons)).map(list)


def _looks() -> st.SearchStrategy[Command]:
    return st.sampled_from([["which_children"], ["count_children"]])


def _own_commands(supervisor: Data, depth: int, *, orphans: bool) -> st.SearchStrategy[Command]:
    """Return requests to one supervisor; if ``orphans``, none that adds a child that lingers."""
    if supervisor["strategy"] == "simple_one_for_one":
        ids = st.sampled_from(DYNAMIC_CHILDREN)
        starts = st.lists(st.sampled_from(DYNAMIC_STARTS), max_size=4)
        start = st.fixed_dictionaries({"id": ids}, optional={"starts": starts})
        by_id = ["terminate_child", "terminate_child", "restart_child", "delete_child"]
    else:
        ids = st.sampled_from(IDS)
        start = st.sampled_from(_ids(depth)).flatmap(
            lambda each: children(each, supervisor["auto_shutdown"], min(depth, 1))
        )
        if orphans:
            start = start.filter(lambda child: "linger" not in repr(child))
        by_id = ["terminate_child", "restart_child", "delete_child", "get_childspec"]
    started = start.map(lambda child: ["start_child", child])
    return st.one_of(started, st.tuples(st.sampled_from(by_id), ids).map(list), _looks())


def _nested_of(supervisor: Data, before: list[str], depth: int) -> list[tuple[list[str], Data, int]]:
    """Return path, data and depth of all supervisors below this one."""
    found = []
    for child in supervisor["children"]:
        if "supervisor" in child:
            here = [*before, child["id"]]
            found += [(here, child["supervisor"], depth - 1), *_nested_of(child["supervisor"], here, depth - 1)]
    return found


@st.composite
def _code_changes(draw: st.DrawFn, supervisor: Data, depth: int) -> Command:
    """Draw a change to a supervisor of the same kind (H11)."""
    if supervisor["strategy"] == "simple_one_for_one":
        new = draw(dynamic_supervisors())
        # Arguments of temporary children are forgotten: OTP then cannot restart them, and we do not try.
        restart = supervisor["children"][0].get("restart", "permanent")
        new["children"] = [_sound(new["children"][0] | {"restart": restart}, new["auto_shutdown"])]
    else:
        new = draw(supervisors(depth))
    new.pop("init", None)
    # A child that lingers since before the change would have for ever to do so.
    return ["change_code", json.loads(json.dumps(new).replace('"linger"', '"obey"').replace('"infinity"', "20"))]


def _worker_ids(supervisor: Data) -> list[str]:
    return DYNAMIC_CHILDREN if supervisor["strategy"] == "simple_one_for_one" else ["a", "b", "c"]


def commands(supervisor: Data, depth: int = LEVELS) -> st.SearchStrategy[Command]:
    """Return commands for a supervisor with these children."""
    nested = _nested_of(supervisor, [], depth)
    own_exits = _exits([[each] for each in _worker_ids(supervisor)], REASONS)
    own_requests = _own_commands(supervisor, depth, orphans=False)
    # Those that can be killed leave no child behind that would never end.
    mortal = [path for path, below, _ in nested if "linger" not in repr(below)]
    own = [own_exits, own_exits, own_requests]
    own += [_exits([path for path in mortal if len(path) == 1], ["kill"])] if any(len(p) == 1 for p in mortal) else []
    # Of nested supervisors nothing is queued but their end: what else they do meanwhile would be a race.
    queued = st.lists(st.one_of(*own), min_size=2, max_size=6).map(lambda inner: ["queued", inner])
    choices = [*own, *own, queued]
    if mortal:
        choices.append(_exits(mortal, ["kill"]))
    choices.append(_code_changes(supervisor, depth))
    for path, below, levels in nested:
        workers = [[*path, each] for each in _worker_ids(below)]
        requests = _own_commands(below, levels, orphans=True).map(lambda command, path=path: ["at", path, command])
        choices += [_exits(workers, REASONS), requests]
    return st.one_of(*choices)


@st.composite
def scripts(draw: st.DrawFn) -> Data:
    """A script for a supervisor whose children have names, with supervisors of all kinds below it."""
    return _script(draw, draw(supervisors()))


@st.composite
def flat_scripts(draw: st.DrawFn) -> Data:
    """A script for one supervisor whose children have names."""
    return _script(draw, draw(supervisors(0)), depth=0)


@st.composite
def dynamic_scripts(draw: st.DrawFn) -> Data:
    """A script for one simple_one_for_one supervisor."""
    return _script(draw, draw(dynamic_supervisors()))


def _script(draw: st.DrawFn, supervisor: Data, depth: int = LEVELS) -> Data:
    """Add commands to a supervisor."""
    end = [["stop"]] if draw(st.booleans()) else []
    return {"supervisor": supervisor, "commands": draw(st.lists(commands(supervisor, depth), max_size=15)) + end}
