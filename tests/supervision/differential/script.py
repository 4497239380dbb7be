"""Scripts of supervisor commands, and the traces they leave: plain data, the same for every supervisor that runs them.

A script is a JSON object::

    {"supervisor": SUPERVISOR, "commands": [COMMAND, ...]}

    SUPERVISOR  {"strategy": "one_for_one" | "one_for_all" | "rest_for_one" | "simple_one_for_one",
                 "intensity": 1, "period": 5, "auto_shutdown": "never" | "any_significant" | "all_significant",
                 "init": "ok" | "ignore" | "crash",         what its init callback does
                 "children": [CHILD, ...]}                  every key may be missing: OTP's defaults
    CHILD       {"id": "a", "restart": "permanent" | "transient" | "temporary", "significant": false,
                 "type": "worker" | "supervisor", "shutdown": milliseconds | "infinity" | "brutal_kill",
                 "starts": [START, ...],                    its first start, its second, ...; then "ok"
                 "stop": "obey" | "linger" | "normal" | "fail",    when it is told to stop
                 "supervisor": SUPERVISOR}                  makes it one; or "nostart": true leaves out how to start it
    START       "ok" | "info" (and {ok, Pid, info}) | "ignore" | "error" | "raise"

    COMMAND     ["start_child", CHILD]        below simple_one_for_one, the keys are added to those of the one child
                ["restart_child" | "terminate_child" | "delete_child" | "get_childspec", ID]
                ["which_children"] | ["count_children"]
                ["at", PATH, COMMAND]         one of the above, to a nested supervisor
                ["exit", PATH, REASON]        a child ends by itself: "normal", "shutdown", ["shutdown", "text"],
                                              "crash"; or is killed by somebody: "kill", which is the
                                              only one for a supervisor
                ["queued", [COMMAND, ...]]    all of these, while the top supervisor handles nothing
                ["sleep", milliseconds]       of the supervisor's clock
                ["check_childspecs", [CHILD, ...]]
                ["change_code", SUPERVISOR]   as a release upgrade does, to the top supervisor; of the same kind
                ["stop"]                      the top supervisor's parent tells it to shut down
    PATH        [ID, ...] from the top supervisor's child down

Between two commands everything that follows from the first comes to rest. A trace is a JSON object::

    {"start": "ok" | "ignore" | ["error", FAULT],
     "results": [RESULT, ...],        one for each command; "gone" once the top supervisor has ended
     "events": [EVENT, ...],          ["start", PATH, START] when a start begins, ["exit", PATH, REASON] when one ended
     "children": [...],               at the end, newest first: [ID, "running" | "restarting" | "stopped", TYPE], and
                                      for a supervisor that runs a fourth element, its own children
     "exit": REASON or null}          why the top supervisor ended

    RESULT  "ok" | ["ok", "pid"] | ["ok", "pid", "info"] | ["ok", null] (ignored) | ["error", NAME]
            | ["error", ["already_started", "pid"]] | ["error", ["start_failed", FAULT]] | "noproc" (nobody to ask)
            | the children | the counts, as [[name, number], ...] | ["ok", {a specification}]
    FAULT   "failed" | a name of what is wrong with a specification | ["failed_to_start_child", ID, FAULT]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Script: TypeAlias = Mapping[str, Any]
Trace: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]
