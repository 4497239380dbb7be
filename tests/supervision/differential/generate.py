"""Random scripts (script.py): for hypothesis, and from a seed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

IDS = ["a", "b", "c", "d"]
REASONS = ["normal", "shutdown", ["shutdown", "text"], "crash", "kill"]
RESTARTS = ["permanent", "transient", "temporary"]
STARTS = ["ok", "ok", "ok", "error", "ignore", "info", "raise"]
STOPS = ["obey", "obey", "obey", "normal", "fail", "linger"]
LONG_PERIOD_SECONDS = 1000
"""Long enough that nothing is forgotten while a script runs: Erlang's clock cannot be moved."""


def children(ids: st.SearchStrategy[str], auto_shutdown: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return children with valid specifications."""
    worker = st.fixed_dictionaries(
        {"id": ids},
        optional={
            "restart": st.sampled_from(RESTARTS),
            "shutdown": st.sampled_from([20, 20, "infinity", "brutal_kill"]),
            "starts": st.lists(st.sampled_from(STARTS), min_size=1, max_size=4),
            "stop": st.sampled_from(STOPS),
            "significant": st.booleans(),
            "type": st.just("worker"),
        },
    ).map(lambda child: _sound(child, auto_shutdown))
    if depth == 0:
        return worker
    nested = st.fixed_dictionaries(
        {"id": ids, "type": st.just("supervisor"), "supervisor": supervisors(depth - 1)},
        optional={"restart": st.sampled_from(RESTARTS), "significant": st.booleans()},
    ).map(lambda child: _sound(child, auto_shutdown))
    return st.one_of(worker, worker, nested)


def _sound(child: dict[str, Any], auto_shutdown: str) -> dict[str, Any]:
    """Make a child possible: one that never stops has a limit; a significant one may be that."""
    if child.get("stop") == "linger" and child.get("shutdown") == "infinity":
        child = {**child, "shutdown": 20}
    if child.get("stop") == "linger" and "shutdown" not in child:
        child = {**child, "shutdown": 20}
    if child.get("significant") and (auto_shutdown == "never" or child.get("restart", "permanent") == "permanent"):
        child = {**child, "significant": False}
    return child


@st.composite
def supervisors(draw: st.DrawFn, depth: int = 1) -> dict[str, Any]:
    """A supervisor with flags and children that are valid."""
    auto_shutdown = draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
    ids = draw(st.lists(st.sampled_from(IDS), unique=True, max_size=4))
    supervisor: dict[str, Any] = {
        "strategy": draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])),
        "intensity": draw(st.integers(0, 4)),
        "period": LONG_PERIOD_SECONDS,
        "auto_shutdown": auto_shutdown,
        "children": [draw(children(st.just(each), auto_shutdown, depth)) for each in ids],
    }
    if draw(st.integers(0, 30)) == 0:
        supervisor["init"] = draw(st.sampled_from(["ignore", "crash"]))
    return supervisor


@st.composite
def dynamic_supervisors(draw: st.DrawFn) -> dict[str, Any]:
    """A simple_one_for_one supervisor."""
    auto_shutdown = draw(st.sampled_from(["never", "any_significant", "all_significant"]))
    return {
        "strategy": "simple_one_for_one",
        "intensity": draw(st.integers(0, 4)),
        "period": LONG_PERIOD_SECONDS,
        "auto_shutdown": auto_shutdown,
        "children": [draw(children(st.just("each"), auto_shutdown, 0))],
    }


def _administration(ids: st.SearchStrategy[str]) -> st.SearchStrategy[list[Any]]:
    by_id = ["terminate_child", "restart_child", "delete_child", "get_childspec"]
    return st.one_of(
        st.tuples(st.sampled_from(by_id), ids).map(list),
        st.sampled_from([["which_children"], ["count_children"]]),
    )


def _paths(supervisor: dict[str, Any], before: list[str]) -> list[list[str]]:
    """Return the paths of all children that a script names."""
    paths = []
    for child in supervisor.get("children", []):
        here = [*before, child["id"]]
        paths.append(here)
        if "supervisor" in child:
            paths += _paths(child["supervisor"], here)
    return paths


def _nested(supervisor: dict[str, Any]) -> list[list[str]]:
    return [[child["id"]] for child in supervisor.get("children", []) if "supervisor" in child]


def commands(supervisor: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    """Return commands for a supervisor with these children."""
    auto_shutdown = supervisor["auto_shutdown"]
    ids = st.sampled_from(IDS)
    nested = _nested(supervisor)
    workers = [path for path in _paths(supervisor, []) if path not in nested] or [["a"]]
    exits = st.tuples(st.just("exit"), st.sampled_from([*workers, ["a"], ["b"]]), st.sampled_from(REASONS)).map(list)
    # A supervisor that is killed takes its children along in an order that nobody promises.
    exits = exits.filter(lambda command: command[1] not in nested)
    start = children(ids, auto_shutdown, 0).map(lambda child: ["start_child", child])
    simple = st.one_of(exits, exits, exits, _administration(ids), start)
    # Of nested supervisors nothing is queued: what they do meanwhile would be a race.
    own = simple.filter(lambda command: command[0] != "exit" or len(command[1]) == 1)
    queued = st.lists(own, min_size=2, max_size=6).map(lambda inner: ["queued", inner])
    choices = [simple, simple, simple, queued]
    if nested:
        choices.append(st.tuples(st.just("at"), st.sampled_from(nested), _administration(ids)).map(list))
    return st.one_of(*choices)


def dynamic_commands(auto_shutdown: str) -> st.SearchStrategy[list[Any]]:
    """Return commands for a simple_one_for_one supervisor."""
    ids = st.sampled_from(["p", "q", "r"])
    exits = st.tuples(st.just("exit"), ids.map(lambda each: [each]), st.sampled_from(REASONS)).map(list)
    # Without "ignore": there OTP keeps a child that is none (erlang/otp#8230).
    starts = st.lists(st.sampled_from(["ok", "ok", "error", "info", "raise"]), max_size=4)
    start = st.fixed_dictionaries({"id": ids}, optional={"starts": starts}).map(lambda child: ["start_child", child])
    terminate = st.tuples(st.just("terminate_child"), ids).map(list)
    wrong = st.tuples(st.sampled_from(["restart_child", "delete_child"]), ids).map(list)
    look = st.sampled_from([["which_children"], ["count_children"]])
    simple = st.one_of(start, start, exits, exits, terminate, wrong, look)
    queued = st.lists(simple, min_size=2, max_size=6).map(lambda inner: ["queued", inner])
    return st.one_of(simple, simple, simple, queued)


@st.composite
def scripts(draw: st.DrawFn) -> dict[str, Any]:
    """A script for a supervisor whose children have names."""
    supervisor = draw(supervisors())
    return {"supervisor": supervisor, "commands": draw(st.lists(commands(supervisor), max_size=12)) + _end(draw)}


@st.composite
def dynamic_scripts(draw: st.DrawFn) -> dict[str, Any]:
    """A script for a simple_one_for_one supervisor."""
    supervisor = draw(dynamic_supervisors())
    supervisor["children"][0].pop("starts", None)
    each = dynamic_commands(supervisor["auto_shutdown"])
    return {"supervisor": supervisor, "commands": draw(st.lists(each, max_size=15)) + _end(draw)}


def _end(draw: st.DrawFn) -> list[Any]:
    return [["stop"]] if draw(st.booleans()) else []
