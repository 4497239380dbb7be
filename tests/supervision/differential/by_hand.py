"""Scripts (script.py) that pin the rules one by one, by their ids in docs/supervision.md."""

from __future__ import annotations

from typing import Any

Data = dict[str, Any]


def child(child_id: str, **fields: Any) -> Data:
    """Return a child; an argument ``kind`` is its type."""
    return {"id": child_id, **{{"kind": "type"}.get(key, key): value for key, value in fields.items()}}


def nested(child_id: str, *children: Data, restart: str = "permanent", significant: bool = False, **flags: Any) -> Data:
    """Return a child that is a supervisor."""
    return child(
        child_id,
        kind="supervisor",
        restart=restart,
        significant=significant,
        supervisor={"children": list(children), "period": 1000, **flags},
    )


def script(*children: Any, commands: list[Any], **flags: Any) -> Data:
    """Return a script for a supervisor with these children and flags."""
    return {"supervisor": {"period": 1000, **flags, "children": list(children)}, "commands": commands}


def lives(restart: str) -> list[Data]:
    """Return five children of one restart type, to end each by another reason."""
    return [child(each, restart=restart) for each in "abcde"]


FIVE_ENDS = [
    ["exit", ["a"], "normal"],
    ["exit", ["b"], "shutdown"],
    ["exit", ["c"], ["shutdown", "text"]],
    ["exit", ["d"], "crash"],
    ["exit", ["e"], "kill"],
    ["which_children"],
]
STATES = [["which_children"], ["count_children"]]
FAILS_ONCE = ["ok", "error"]
FAILS_FOR_EVER = ["ok", *["error"] * 30]

BY_HAND: dict[str, Data] = {
    "A1 the defaults: one restart in five seconds": {
        "supervisor": {"children": [child("a"), child("b")]},
        "commands": [["exit", ["a"], "crash"], ["exit", ["b"], "crash"]],
    },
    "A2 A9 specifications have their defaults filled in": script(
        child("a"),
        nested("s"),
        child("b", restart="transient", shutdown=7, significant=True),
        auto_shutdown="any_significant",
        commands=[["get_childspec", each] for each in ("a", "s", "b", "z")],
    ),
    "A8 specifications are checked without starting, faults of the first come first": script(
        commands=[
            ["check_childspecs", children]
            for children in (
                [child("a"), child("b", restart="transient", significant=True)],
                [{"restart": "permanent"}],
                [{"id": "a", "nostart": True}],
                ["no specification"],
                [child("a"), child("a")],
                [child("a", restart="always")],
                [child("a", shutdown=-1)],
                [child("a", shutdown="never")],
                [child("a", kind="boss")],
                [child("a", significant="yes")],
                [child("a", significant=True)],
                [child("a", significant=True, kind="boss", shutdown=-1)],
                [child("a", restart="always", kind="boss")],
                [child("a", kind="boss", shutdown=-1)],
                [child("a", shutdown=-1), child("b", restart="always")],
            )
        ]
    ),
    "A7 start_child refuses what its supervisor cannot have, before it looks at the id": script(
        child("a"),
        commands=[
            ["start_child", child("a", restart="transient", significant=True)],
            ["start_child", child("a", restart="always")],
            ["start_child", {"id": "a", "nostart": True}],
            ["start_child", "no specification"],
            *STATES,
        ],
    ),
    "B1 children start in order, and end in reverse order": script(
        *(child(each) for each in "abcd"), commands=[["which_children"], ["stop"]]
    ),
    "B2 B3 what a start may come to": script(
        child("a", starts=["info"]),
        child("b", starts=["ignore"]),
        commands=[
            ["start_child", child("c", starts=["info"])],
            ["start_child", child("d", starts=["raise"])],
            ["start_child", child("e", starts=["error"])],
            ["terminate_child", "c"],
            ["restart_child", "c"],
            *STATES,
        ],
    ),
    "B4 B5 ignored children are kept, temporary ones are not": script(
        child("a", starts=["ignore"]),
        child("b", restart="transient", starts=["ignore"]),
        child("c", restart="temporary", starts=["ignore"]),
        commands=[
            *STATES,
            ["start_child", child("c", restart="temporary", starts=["ignore", "ignore"])],
            ["start_child", child("d", starts=["ignore"])],
            ["restart_child", "a"],
            *STATES,
            ["delete_child", "b"],
            ["stop"],
        ],
    ),
    "B6 a first start that fails ends those before it, the last first": script(
        child("a"), child("b", stop="linger", shutdown=20), child("c", starts=["raise"]), child("d"), commands=[]
    ),
    "B6 a first start counts nothing and is not tried again": script(
        child("a", starts=["error", "ok"]), intensity=10, commands=[]
    ),
    "B7 init may ignore": script(child("a"), init="ignore", commands=[]),
    "B7 init may crash": script(child("a"), init="crash", commands=[]),
    "B7 an ignored supervisor is a child that is down": script(
        nested("s", child("a"), init="ignore"), commands=[*STATES, ["restart_child", "s"]]
    ),
    "C1 permanent children are restarted whatever ended them": script(
        *lives("permanent"), intensity=9, commands=FIVE_ENDS
    ),
    "C2 transient children are restarted after a crash or a kill": script(
        *lives("transient"), intensity=9, commands=[*FIVE_ENDS, ["restart_child", "a"], ["which_children"]]
    ),
    "C3 temporary children are never restarted, and forgotten": script(
        *lives("temporary"), intensity=0, commands=[*FIVE_ENDS, ["start_child", child("a")], ["which_children"]]
    ),
    "C4 temporary bystanders are forgotten": script(
        child("a", restart="temporary"),
        child("b"),
        child("c", restart="temporary"),
        strategy="one_for_all",
        intensity=3,
        commands=[["exit", ["b"], "crash"], *STATES, ["start_child", child("a", restart="temporary")], *STATES],
    ),
    "C4 temporary bystanders behind the ended one are forgotten": script(
        child("a", restart="temporary"),
        child("b"),
        child("c", restart="temporary"),
        strategy="rest_for_one",
        intensity=3,
        commands=[["exit", ["b"], "crash"], *STATES],
    ),
    "D1 one_for_one leaves siblings alone": script(
        *(child(each) for each in "abc"), commands=[["exit", ["b"], "crash"], ["which_children"], ["stop"]]
    ),
    "D2 D4 one_for_all ends all in reverse and starts all in order, those that were down too": script(
        child("a"),
        child("b", restart="transient"),
        child("c"),
        child("d"),
        strategy="one_for_all",
        intensity=3,
        commands=[
            ["exit", ["b"], "normal"],
            ["terminate_child", "d"],
            ["which_children"],
            ["exit", ["a"], "crash"],
            ["which_children"],
        ],
    ),
    "D3 D4 rest_for_one ends and starts those behind, those that were down too": script(
        child("a", restart="transient"),
        child("b"),
        child("c"),
        child("d", restart="transient"),
        child("e"),
        strategy="rest_for_one",
        intensity=3,
        commands=[
            ["exit", ["a"], "normal"],
            ["exit", ["d"], "normal"],
            ["exit", ["c"], "crash"],
            ["which_children"],
            ["stop"],
        ],
    ),
    "D6 E6 what the supervisor ends itself is not restarted and does not count": script(
        child("a"),
        child("b"),
        strategy="one_for_all",
        intensity=0,
        commands=[*[["terminate_child", "a"], ["restart_child", "a"]] * 3, *STATES],
    ),
    "D7 a dynamic supervisor has exactly one specification: none": script(strategy="simple_one_for_one", commands=[]),
    "D7 a dynamic supervisor has exactly one specification: two": script(
        child("a"), child("b"), strategy="simple_one_for_one", commands=[]
    ),
    "D7 dynamic children restart with the arguments they were given": script(
        child("each"),
        strategy="simple_one_for_one",
        intensity=5,
        commands=[
            ["start_child", {"id": "p", "starts": ["info", "error", "ok"]}],
            ["start_child", {"id": "q", "stop": "normal"}],
            ["exit", ["p"], "crash"],
            *STATES,
            ["exit", ["q"], "normal"],
            *STATES,
            ["get_childspec", "each"],
        ],
    ),
    "E1 E2 one count for all children, and the one beyond it is the end": script(
        child("a"),
        child("b"),
        child("c"),
        intensity=2,
        commands=[["exit", ["a"], "crash"], ["exit", ["b"], "crash"], ["exit", ["c"], "crash"], ["which_children"]],
    ),
    "E2 an intensity of zero allows none": script(
        child("a"), child("b"), intensity=0, commands=[["exit", ["b"], "crash"]]
    ),
    "E3 restarts are forgotten after the period": script(
        child("a"),
        intensity=1,
        period=1,
        commands=[
            ["exit", ["a"], "crash"],
            ["sleep", 2100],
            ["exit", ["a"], "crash"],
            ["sleep", 2100],
            ["exit", ["a"], "crash"],
            ["exit", ["a"], "crash"],
        ],
    ),
    "E4 a group restart counts once": script(
        *(child(each) for each in "abcd"),
        strategy="one_for_all",
        intensity=2,
        commands=[["exit", ["a"], "crash"], ["exit", ["d"], "crash"], ["which_children"], ["exit", ["b"], "crash"]],
    ),
    "E5 F2 each failed try counts": script(
        child("x"), child("a", starts=FAILS_FOR_EVER), intensity=4, commands=[["exit", ["a"], "crash"]]
    ),
    "E6 ends without a restart never count": script(
        child("a", restart="temporary"),
        child("b", restart="transient"),
        child("c"),
        intensity=0,
        commands=[["exit", ["a"], "crash"], ["exit", ["b"], "normal"], *STATES, ["exit", ["c"], "normal"]],
    ),
    "E7 giving up ends the others in reverse order": script(
        *(child(each) for each in "abcd"), intensity=0, commands=[["exit", ["b"], "crash"]]
    ),
    "F1 a retry queues behind what is in the mailbox": script(
        child("a", starts=FAILS_FOR_EVER),
        child("b"),
        intensity=50,
        commands=[
            [
                "queued",
                [
                    ["exit", ["a"], "crash"],
                    ["exit", ["b"], "crash"],
                    ["which_children"],
                    ["restart_child", "a"],
                    ["delete_child", "a"],
                    ["start_child", child("a")],
                    ["count_children"],
                    ["terminate_child", "a"],
                    ["which_children"],
                ],
            ],
            *STATES,
        ],
    ),
    "F3 one_for_all, a child fails: those already restarted end again": script(
        child("a"),
        child("b"),
        child("c", starts=FAILS_ONCE),
        strategy="one_for_all",
        intensity=5,
        commands=[["exit", ["a"], "crash"], *STATES],
    ),
    "F4 rest_for_one, a child fails: the retry starts from that one": script(
        child("a"),
        child("b"),
        child("c", starts=FAILS_ONCE),
        child("d"),
        strategy="rest_for_one",
        intensity=5,
        commands=[["exit", ["b"], "crash"], *STATES],
    ),
    "F6 terminating what is restarting leaves the siblings behind it down": script(
        child("a"),
        child("b", starts=FAILS_FOR_EVER),
        child("c"),
        strategy="one_for_all",
        intensity=50,
        commands=[
            ["queued", [["exit", ["a"], "crash"], ["terminate_child", "b"], ["which_children"]]],
            *STATES,
            ["exit", ["a"], "crash"],
            *STATES,
        ],
    ),
    "F7 ignored at its restart, a child stays, down": script(
        child("a", starts=["ok", "ignore"]),
        child("b", restart="transient", starts=["ok", "ignore"]),
        intensity=5,
        commands=[["exit", ["a"], "crash"], ["exit", ["b"], "crash"], *STATES, ["restart_child", "a"], *STATES],
    ),
    "G2 G4 lingering children are killed in their turn": script(
        child("a"),
        child("b", stop="linger", shutdown=20),
        child("c", shutdown="brutal_kill"),
        child("d", stop="linger", shutdown="brutal_kill"),
        child("e", stop="linger", shutdown=0),
        commands=[["stop"]],
    ),
    "G3 G5 other ends than the expected one hurt nobody": script(
        child("a", stop="fail", shutdown="infinity"),
        child("b", stop="normal"),
        child("c", stop="fail"),
        strategy="one_for_all",
        intensity=1,
        commands=[["exit", ["b"], "crash"], ["terminate_child", "a"], ["terminate_child", "b"], *STATES, ["stop"]],
    ),
    "G8 a supervisor that is told to stop by its own ends its children first": script(
        nested("s", child("a"), nested("t", child("b"), child("c", stop="linger", shutdown=20))),
        commands=[["terminate_child", "s"], *STATES, ["restart_child", "s"], ["stop"]],
    ),
    "H1 ids are used once": script(
        child("a"),
        commands=[["start_child", child("a")], ["terminate_child", "a"], ["start_child", child("a")], *STATES],
    ),
    "H2 a child that does not start is not added": script(
        child("a"),
        intensity=0,
        commands=[["start_child", child("b", starts=["error"])], ["start_child", child("b")], *STATES],
    ),
    "H3 terminate_child": script(
        child("a"),
        child("b", restart="temporary"),
        child("c", restart="transient"),
        intensity=0,
        commands=[
            *[["terminate_child", each] for each in "aabbccz"],
            *STATES,
        ],
    ),
    "H4 H5 restart_child and delete_child": script(
        child("a", starts=["ok", "error", "ok"]),
        child("b", restart="temporary"),
        intensity=0,
        commands=[
            ["restart_child", "a"],
            ["delete_child", "a"],
            ["restart_child", "z"],
            ["terminate_child", "a"],
            ["restart_child", "a"],
            ["restart_child", "a"],
            ["terminate_child", "a"],
            ["delete_child", "a"],
            ["delete_child", "a"],
            ["exit", ["b"], "normal"],
            ["restart_child", "b"],
            *STATES,
        ],
    ),
    "H6 H7 a dead child whose end was not handled yet is running, and not active": script(
        child("a"),
        child("b"),
        nested("s"),
        intensity=0,
        commands=[
            [
                "queued",
                [
                    ["exit", ["a"], "crash"],
                    ["which_children"],
                    ["count_children"],
                    ["restart_child", "a"],
                    ["delete_child", "a"],
                    ["start_child", child("a")],
                ],
            ]
        ],
    ),
    "H3 terminating a child that is dead swallows its end, uncounted": script(
        child("a"),
        child("b"),
        intensity=0,
        commands=[["queued", [["terminate_child", "a"], ["exit", ["a"], "crash"], ["which_children"]]], *STATES],
    ),
    "E4 a group restart swallows the ends of others that are dead": script(
        child("a"),
        child("b"),
        child("c"),
        strategy="one_for_all",
        intensity=1,
        commands=[["queued", [["exit", [each], "crash"] for each in "bac"]], *STATES],
    ),
    "H8 dynamic children have no ids": script(
        child("each", restart="temporary"),
        strategy="simple_one_for_one",
        commands=[
            ["start_child", {"id": "p"}],
            ["restart_child", "p"],
            ["delete_child", "p"],
            ["terminate_child", "p"],
            ["terminate_child", "p"],
            *STATES,
        ],
    ),
    "H10 children that were added go with their supervisor, deleted ones come back": script(
        nested("s", child("a"), child("b"), intensity=0),
        intensity=2,
        commands=[
            ["at", ["s"], ["start_child", child("c")]],
            ["at", ["s"], ["terminate_child", "b"]],
            ["at", ["s"], ["delete_child", "b"]],
            ["at", ["s"], ["which_children"]],
            ["exit", ["s", "a"], "crash"],
            ["at", ["s"], ["which_children"]],
        ],
    ),
    "H11 matching ids go on, new ones are down, missing ones are kept": script(
        child("a"),
        child("b"),
        child("c", restart="temporary"),
        child("d"),
        commands=[
            ["terminate_child", "d"],
            [
                "change_code",
                {
                    "strategy": "rest_for_one",
                    "intensity": 3,
                    "period": 1000,
                    "children": [child("e"), child("d"), child("b", shutdown="brutal_kill")],
                },
            ],
            *STATES,
            ["get_childspec", "b"],
            ["exit", ["b"], "crash"],
            ["which_children"],
            ["restart_child", "e"],
            ["stop"],
        ],
    ),
    "H11 a faulty change changes nothing, and restarts of the past count": script(
        child("a"),
        intensity=2,
        commands=[
            ["exit", ["a"], "crash"],
            ["change_code", {"intensity": -1}],
            ["change_code", {"children": [child("a"), child("a")]}],
            ["change_code", {"children": [child("a", restart="transient", significant=True)]}],
            ["change_code", {"intensity": 2, "period": 1000, "children": [child("a")]}],
            ["exit", ["a"], "crash"],
            ["exit", ["a"], "crash"],
        ],
    ),
    "I1 any_significant: the first end for good, and only by itself": script(
        child("a", restart="transient", significant=True),
        child("b", restart="temporary", significant=True),
        child("c", restart="transient", significant=True),
        child("d"),
        auto_shutdown="any_significant",
        intensity=3,
        commands=[
            ["exit", ["a"], "crash"],
            ["terminate_child", "b"],
            ["which_children"],
            ["exit", ["c"], ["shutdown", "text"]],
        ],
    ),
    "I1 any_significant: a temporary child by any end": script(
        child("a"),
        child("b", restart="temporary", significant=True),
        auto_shutdown="any_significant",
        commands=[["exit", ["b"], "crash"]],
    ),
    "I2 all_significant: the last one": script(
        child("a", restart="transient", significant=True),
        child("b", restart="transient", significant=True),
        child("c"),
        auto_shutdown="all_significant",
        commands=[["exit", ["a"], "normal"], ["which_children"], ["exit", ["b"], "normal"]],
    ),
    "I2 all_significant: one that is being restarted counts as running": script(
        child("a", restart="transient", significant=True, starts=["ok", "error", "ok"]),
        child("b", restart="transient", significant=True),
        auto_shutdown="all_significant",
        intensity=5,
        commands=[["queued", [["exit", ["a"], "crash"], ["exit", ["b"], "normal"]]], *STATES],
    ),
    "I2 all_significant: ignored and terminated ones do not count": script(
        child("a", restart="transient", significant=True, starts=["ignore"]),
        child("b", restart="transient", significant=True),
        child("c", restart="transient", significant=True),
        auto_shutdown="all_significant",
        commands=[["terminate_child", "b"], ["which_children"], ["exit", ["c"], "normal"]],
    ),
    "I4 all_significant: terminating the last one triggers nothing": script(
        child("a", restart="temporary", significant=True),
        child("b"),
        auto_shutdown="all_significant",
        commands=[["terminate_child", "a"], *STATES],
    ),
    "I4 a group restart triggers nothing": script(
        child("a", restart="temporary", significant=True),
        child("b"),
        strategy="one_for_all",
        auto_shutdown="any_significant",
        commands=[["exit", ["b"], "crash"], *STATES],
    ),
    "I5 what remains ends in reverse order": script(
        *(child(each) for each in "abc"),
        child("d", restart="transient", significant=True),
        auto_shutdown="any_significant",
        commands=[["exit", ["d"], "normal"]],
    ),
    "I1 I2 a dynamic supervisor ends with its last significant child": script(
        child("each", restart="transient", significant=True),
        strategy="simple_one_for_one",
        auto_shutdown="all_significant",
        intensity=3,
        commands=[
            ["start_child", {"id": "p"}],
            ["start_child", {"id": "q"}],
            ["exit", ["p"], "normal"],
            ["exit", ["q"], "crash"],
            *STATES,
            ["exit", ["q"], "normal"],
        ],
    ),
    "J1 a permanent supervisor that gives up is restarted and counts once": script(
        child("x"),
        nested("s", child("a"), intensity=0),
        intensity=1,
        commands=[["exit", ["s", "a"], "crash"], *STATES, ["exit", ["s", "a"], "crash"]],
    ),
    "J1 a transient supervisor that gives up is not": script(
        nested("s", child("a"), restart="transient", intensity=0),
        commands=[["exit", ["s", "a"], "crash"], *STATES, ["restart_child", "s"], *STATES],
    ),
    "J1 a supervisor whose start fails is a failed start, tried again and counted": script(
        nested("s", child("b"), child("a", starts=["ok", "error", "error", "ok"]), intensity=0),
        intensity=4,
        commands=[["exit", ["s", "a"], "crash"], *STATES, ["start_child", nested("t", init="crash")], *STATES],
    ),
    "J2 restarts multiply over three levels": script(
        nested("s", nested("t", child("a"), intensity=1), child("b"), intensity=1, strategy="rest_for_one"),
        child("c"),
        intensity=1,
        strategy="one_for_all",
        commands=[*[["exit", ["s", "t", "a"], "crash"]] * 8],
    ),
    "J1 I1 a significant supervisor that ends takes the one above along": script(
        child("x"),
        nested(
            "s",
            nested("t", child("a", restart="temporary", significant=True), restart="transient", significant=True)
            | {
                "supervisor": {
                    "auto_shutdown": "any_significant",
                    "children": [child("a", restart="temporary", significant=True), child("b")],
                }
            },
            restart="temporary",
            auto_shutdown="all_significant",
        ),
        commands=[["at", ["s", "t"], ["which_children"]], ["exit", ["s", "t", "a"], "normal"], *STATES],
    ),
    "K2 a supervisor that is killed leaves no child": script(
        nested("s", child("a"), nested("t", child("b")), intensity=3),
        child("c"),
        intensity=1,
        commands=[
            ["exit", ["s"], "kill"],
            *STATES,
            ["at", ["s", "t"], ["which_children"]],
            ["exit", ["s", "t"], "kill"],
        ],
    ),
    "D7 G7 a dynamic supervisor inside of a tree": script(
        nested("y", child("each", stop="linger", shutdown=20), strategy="simple_one_for_one", intensity=1),
        child("a"),
        intensity=1,
        strategy="rest_for_one",
        commands=[
            *[["at", ["y"], ["start_child", {"id": each}]] for each in "pqr"],
            ["at", ["y"], ["count_children"]],
            ["exit", ["y", "q"], "crash"],
            ["at", ["y"], ["which_children"]],
            ["exit", ["y", "p"], "crash"],
            ["at", ["y"], ["count_children"]],
            ["stop"],
        ],
    ),
    **{
        f"A4 a faulty flag, {flag}: {value!r}": script(child("a"), **{flag: value}, commands=[])
        for flag, value in (
            ("strategy", "all"),
            ("intensity", -1),
            ("intensity", "many"),
            ("period", 0),
            ("period", -5),
            ("auto_shutdown", "always"),
        )
    },
    **{
        f"{rule}: {fault!r}": script(child("x"), fault, commands=[])
        for rule, fault in (
            ("A3 without an id", {"restart": "permanent"}),
            ("A3 without a start", {"id": "a", "nostart": True}),
            ("A3 no specification", "nothing"),
            ("A4 a restart type", child("a", restart="always")),
            ("A4 a shutdown", child("a", shutdown=-1)),
            ("A4 a shutdown", child("a", shutdown="never")),
            ("A4 a child type", child("a", kind="boss")),
            ("A4 significant", child("a", restart="transient", significant="yes")),
            ("A6 an id twice", child("x")),
            ("A7 significant below one that never ends by itself", child("a", restart="transient", significant=True)),
        )
    },
    "A7 significant and permanent": script(child("a", significant=True), auto_shutdown="any_significant", commands=[]),
    "A3 a faulty specification of a supervisor below is its failed start": script(
        child("x"), nested("s", child("a", restart="always")), commands=[]
    ),
}
