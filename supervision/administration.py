"""What an administrator can do to a running system: look at its actors, stop one, restart one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, assert_never

import pykka

from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem

from .actor_tree import ActorNode, actor_tree
from .admin_messages import AdminAnswer, AdminError, AdminRequest, ErrorCode, RestartRequest, StopRequest, TreeRequest
from .child_spec import ChildSpec
from .supervisor_messages import ChildStarted, GetChildSpec, Refused, RestartChild, StartFailed, TerminateChild


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
        await _terminate(supervisor, child)
        return {"path": child.path, "was": child.state, "stopped": [] if child.state == "stopped" else [child.path]}

    async def _restart(self, name: str) -> dict[str, Any]:
        child, supervisor = await self._find(name)
        spec = await _spec(supervisor, child)
        if spec.restart == "temporary":
            raise Refusal(
                "refused",
                f"{child.path} is a temporary child: its supervisor forgets it when it ends, and cannot start it again",
            )
        await _terminate(supervisor, child)
        await _start(supervisor, child)
        return {"path": child.path, "was": child.state, "restarted": [child.path]}

    async def _find(self, name: str) -> tuple[ActorNode, EventRef[Any]]:
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
        if parent is None or not parent.is_supervisor or parent.ref is None:
            raise Refusal("refused", f"{node.path} is no child of a supervisor: nobody could start it again")
        return node, parent.ref


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
        "mailbox_depth": node.mailbox_depth,
        "handling": node.handling,
        "handling_seconds": node.handling_seconds,
        "supervisor": node.is_supervisor,
        "answers": node.answers,
        "children": [document(child) for child in node.children],
        "children_omitted": node.omitted,
    }


async def _spec(supervisor: EventRef[Any], child: ActorNode) -> ChildSpec:
    answer = await supervisor.ask(GetChildSpec(child.name), block=False)
    if isinstance(answer, Refused):
        _refused(child, answer)
    spec: ChildSpec = answer
    return spec


async def _terminate(supervisor: EventRef[Any], child: ActorNode) -> None:
    answer = await supervisor.ask(TerminateChild(child.name), block=False)
    if isinstance(answer, Refused):
        _refused(child, answer)


async def _start(supervisor: EventRef[Any], child: ActorNode) -> None:
    answer: ChildStarted | StartFailed | Refused = await supervisor.ask(RestartChild(child.name), block=False)
    match answer:
        case ChildStarted():
            return
        case StartFailed(exception):
            raise Refusal("start_failed", f"{child.path} was stopped and does not start again: {exception!r}")
        case Refused():
            _refused(child, answer)
        case _:
            assert_never(answer)


def _refused(child: ActorNode, answer: Refused) -> NoReturn:
    raise Refusal(
        "refused", f"{child.path}: its supervisor says {answer.reason}; look again with `callboard actor tree`"
    )
