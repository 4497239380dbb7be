"""What an administrator can do to a running system: look at its actors, stop one, restart one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, assert_never

import pykka

from callboard.actors.system import ActorSystem

from .actor_tree import ActorNode, actor_tree
from .admin_messages import AdminAnswer, AdminError, AdminRequest, ErrorCode, RestartRequest, StopRequest, TreeRequest
from .child_spec import ChildSpec
from .strategy import affected
from .supervisor_messages import (
    ChildKey,
    ChildStarted,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartFailed,
    TerminateChild,
)


class Refusal(Exception):
    """Ends an action; its client hears why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = AdminError(code=code, message=message)


class Administration:
    """Answers the requests of admin clients. On the system's event loop.

    Stopping and restarting go through the supervisor's own ``TerminateChild`` and ``RestartChild``: an action counts as
    no crash, and a child that was stopped stays down until it is restarted, or its supervisor is.

    Args:
        system: whose actors.
        process: what else is told about this process in each tree, as JSON.
    """

    def __init__(self, system: ActorSystem, process: Mapping[str, Any]) -> None:
        self._system = system
        self._process = {"pid": os.getpid(), **process}

    async def answer(self, request: AdminRequest) -> AdminAnswer:
        """Do what is asked."""
        try:
            return AdminAnswer(result=await self._result(request))
        except Refusal as refusal:
            return AdminAnswer(error=refusal.error)
        except pykka.ActorDeadError:
            return AdminAnswer(error=AdminError(code="stopping", message="the process is stopping"))
        except pykka.Timeout:
            message = "the supervisor is busy and has not done it yet; it will, when it can: see `callboard actor tree`"
            return AdminAnswer(error=AdminError(code="unanswered", message=message))

    async def _result(self, request: AdminRequest) -> dict[str, Any]:
        match request:
            case TreeRequest():
                return {**self._process, "actors": [document(node) for node in await actor_tree(self._system)]}
            case StopRequest(name=name):
                return await self._stop(name)
            case RestartRequest(name=name):
                return await self._restart(name)
            case _:
                assert_never(request)

    async def _stop(self, name: str) -> dict[str, Any]:
        child, supervisor = await self._find(name)
        group = _with_dependants(child, supervisor)
        await _terminate(supervisor, group)
        stopped = [each.path for each in reversed(group) if each.state != "stopped"]
        return {"path": child.path, "was": child.state, "stopped": stopped}

    async def _restart(self, name: str) -> dict[str, Any]:
        child, supervisor = await self._find(name)
        group = _with_dependants(child, supervisor)
        temporary = [each for each in group if await _is_temporary(supervisor, each)]
        if child in temporary or not isinstance(child.key, str):
            raise Refusal(
                "refused",
                f"{child.path} is a temporary child, or one of a dynamic supervisor, which forgets it when it ends and "
                "cannot start it again",
            )
        await _terminate(supervisor, group)
        again = [each for each in group if each not in temporary]
        await _start(supervisor, again)
        return {"path": child.path, "was": child.state, "restarted": [each.path for each in again]}

    async def _find(self, name: str) -> tuple[ActorNode, ActorNode]:
        """Return the one actor that a name means, and its supervisor."""
        every = [each for top in await actor_tree(self._system) for each in top.flattened()]
        paths = [node.path for node, _ in every]
        found = [every[index] for index in matching(paths, name)]
        if not found:
            raise Refusal("not_found", f"no actor {name!r} here; `callboard actor tree` shows all")
        if len(found) > 1:
            among = ", ".join(node.path for node, _ in found[:5])
            raise Refusal("ambiguous", f"{len(found)} actors are called {name!r}: {among}; give one of these paths")
        node, parent = found[0]
        if parent is None or parent.strategy is None or node.key is None:
            raise Refusal(
                "refused",
                f"{node.path} cannot be stopped or restarted by itself: only a child of a supervisor can, as long as "
                "that runs. A job ends by `callboard job cancel`, the process by a signal",
            )
        return node, parent


def matching(paths: Sequence[str], name: str) -> list[int]:
    """Return which paths a name means: exactly this path, or else all that end with these steps."""
    exact = [index for index, path in enumerate(paths) if path == name]
    return exact or [index for index, path in enumerate(paths) if path.endswith(f"/{name}")]


def document(node: ActorNode) -> dict[str, Any]:
    """Return an actor, with all below it, as JSON."""
    return {
        "name": node.name,
        "path": node.path,
        "type": node.actor_type,
        "state": node.state,
        "label": node.label,
        "restarts": node.restarts,
        "mailbox_depth": node.mailbox_depth,
        "handling": node.handling,
        "handling_seconds": node.handling_seconds,
        "strategy": node.strategy,
        "answers": node.answers,
        "children": [document(child) for child in node.children],
        "children_omitted": node.omitted,
    }


def _with_dependants(child: ActorNode, supervisor: ActorNode) -> list[ActorNode]:
    """Return who stops, or starts again, with a child: whom its supervisor would restart with it. In starting order."""
    places = {each.key: each for each in supervisor.children if isinstance(each.key, str)}
    if supervisor.strategy is None or not isinstance(child.key, str) or child.key not in places:
        return [child]
    return [places[key] for key in affected(supervisor.strategy, list(places), child.key)]


async def _ask(supervisor: ActorNode, message: object) -> Any:
    assert supervisor.ref is not None
    return await supervisor.ref.ask(message, block=False)


async def _is_temporary(supervisor: ActorNode, child: ActorNode) -> bool:
    answer: ChildSpec | Refused = await _ask(supervisor, GetChildSpec(_key(child)))
    if isinstance(answer, Refused):
        _refused(child, answer)
    return answer.restart == "temporary"


async def _terminate(supervisor: ActorNode, group: Sequence[ActorNode]) -> None:
    for child in reversed(group):
        answer: Done | Refused = await _ask(supervisor, TerminateChild(_key(child)))
        if isinstance(answer, Refused):
            _refused(child, answer)


async def _start(supervisor: ActorNode, group: Sequence[ActorNode]) -> None:
    for position, child in enumerate(group):
        answer: ChildStarted | StartFailed | Refused = await _ask(supervisor, RestartChild(str(child.key)))
        match answer:
            case ChildStarted():
                pass
            case StartFailed(exception):
                down = ", ".join(each.path for each in group[position:])
                raise Refusal("start_failed", f"{child.path} does not start again: {exception!r}. Down are now: {down}")
            case Refused():
                _refused(child, answer)
            case _:
                assert_never(answer)


def _key(child: ActorNode) -> ChildKey:
    assert child.key is not None
    return child.key


def _refused(child: ActorNode, answer: Refused) -> NoReturn:
    raise Refusal(
        "refused", f"{child.path}: its supervisor says {answer.reason}; look again with `callboard actor tree`"
    )
