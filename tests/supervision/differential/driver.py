"""Runs a script (script.py) against Callboard's supervisors and returns the trace. The other side is oracle.erl."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pykka

from callboard.actors.actor import EventActor
from callboard.actors.control import Ignore, Stop
from callboard.actors.errors import InvalidSpecification
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.messages import ERROR, KILLED, NORMAL, SHUTDOWN, Shutdown, Terminated
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.supervision.base_supervisor import BaseSupervisor
from callboard.supervision.child_spec import ChildSpec, check_child_specs
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import FailedToStartChild, Supervisor
from callboard.supervision.supervisor_flags import SupervisorFlags
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    ChildStarted,
    CodeChange,
    CountChildren,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    StartDynamicChild,
    StartFailed,
    TerminateChild,
    WhichChildren,
)
from callboard.testing import FakeClock

from .script import Path, Script, Trace

PATIENCE_SECONDS = 20
LONGEST_WAIT_SECONDS = 0.02
_FLAGS = {"intensity": "intensity", "period": "period_seconds", "auto_shutdown": "auto_shutdown"}
_FIELDS = {"id": "id", "restart": "restart", "significant": "significant", "type": "child_type"}
_BY_ID = {"restart_child": RestartChild, "delete_child": DeleteChild, "get_childspec": GetChildSpec}


def run_script(script: Script) -> Trace:
    """Run a script and return its trace."""
    return asyncio.run(asyncio.wait_for(_Run(script).trace(), PATIENCE_SECONDS))


class HastyClock(FakeClock):
    """Its time moves by command only, but whoever waits for it waits a moment: what can happen before it does."""

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(min(delay_seconds, LONGEST_WAIT_SECONDS), callback)


class Recorder:
    """Who started and ended, in order, and who is alive."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.alive: dict[Path, EventRef[Any]] = {}
        self.strategies: dict[Path, str] = {}
        self._starts: Counter[Path] = Counter()

    def next_start(self, path: Path, starts: list[str]) -> str:
        number = self._starts[path]
        self._starts[path] += 1
        start = starts[number] if number < len(starts) else "ok"
        self.events.append(["start", list(path), start])
        return start

    def up(self, path: Path, ref: EventRef[Any]) -> None:
        self.alive[path] = ref
        ref.actor_inbox.watch(self, lambda end: self._ended(path, end), ref)

    def _ended(self, path: Path, end: Terminated) -> None:
        self.events.append(["exit", list(path), reason_of(end)])
        if self.alive.get(path) is end.ref:
            del self.alive[path]


def reason_of(end: Terminated) -> Any:
    known = {NORMAL: "normal", SHUTDOWN: "shutdown", KILLED: "killed", ERROR: "crash"}
    return known.get(end.reason) or ["shutdown", end.reason]


class Worker(EventActor):
    """A child that does as the script says."""

    traps_shutdown = True

    def __init__(
        self, recorder: Recorder, path: Path, child: Mapping[str, Any], given: Mapping[str, Any] | None = None
    ):
        super().__init__()
        self.child = child if given is None else {**child, **given}
        self.path = path if given is None else (*path, given["id"])
        self.recorder = recorder
        self.start_outcome = recorder.next_start(self.path, self.child.get("starts", []))
        if self.start_outcome == "raise":
            raise LookupError("failed")

    async def on_start(self) -> str | None:
        await asyncio.sleep(0)
        if self.start_outcome == "ignore":
            raise Ignore
        if self.start_outcome == "error":
            raise LookupError("failed")
        self.recorder.up(self.path, self.actor_ref)
        return "info" if self.start_outcome == "info" else None

    async def on_receive(self, message: Any) -> None:
        match message:
            case Shutdown(reason):
                await self._told_to_stop(reason)
            case "crash":
                raise ValueError("crash")
            case ("shutdown", text) | ["shutdown", text]:
                raise Stop(text)
            case reason:
                self.context.exit(reason)

    async def _told_to_stop(self, reason: str) -> None:
        match self.child.get("stop", "obey"):
            case "obey":
                self.context.exit(reason)
            case "normal":
                self.context.exit(NORMAL)
            case "fail":
                raise ValueError("failed")
            case "linger":
                await asyncio.Event().wait()


class Top(EventActor):
    """Parent of the supervisor under test."""

    def __init__(self, start: Callable[[Any], None]) -> None:
        super().__init__()
        self._start = start

    def on_start(self) -> None:
        self._start(self.context)


def _made(
    base: type[BaseSupervisor], recorder: Recorder, path: Path, script: Mapping[str, Any]
) -> type[BaseSupervisor]:
    """Return a supervisor's class whose init callback does as the script says, and whose start is recorded."""

    class Scripted(base):  # type: ignore[misc, valid-type]
        async def on_start(self) -> None:
            recorder.strategies[path] = script.get("strategy", "one_for_one")
            match script.get("init", "ok"):
                case "ignore":
                    raise Ignore
                case "crash":
                    raise LookupError("failed")
            result = super().on_start()
            if result is not None:
                await result
            if path:
                recorder.up(path, self.actor_ref)

    return Scripted


class _Run:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.recorder = Recorder()
        self.clock = HastyClock()

    async def trace(self) -> Trace:
        self.system = ActorSystem("differential", loop_dispatcher=LoopDispatcher.attach(), clock=self.clock)
        try:
            return await self._trace()
        finally:
            await self.system.aclose()

    async def _trace(self) -> Trace:
        trace: Trace = {"start": "ok", "results": [], "children": [], "exit": None}
        try:
            spec = self._supervisor_spec((), {"id": "top", "supervisor": self.script["supervisor"]})
            self.top = self.system.spawn(spec.actor_class, *spec.args, **spec.kwargs)
        except InvalidSpecification as error:
            return trace | {"start": ["error", error.reason], "events": []}
        self.end = self.top.termination()
        try:
            await self.top.ask(CountChildren(), block=False)
        except pykka.ActorDeadError:
            end = await self.end
            if isinstance(end.exception, Ignore):
                return trace | {"start": "ignore", "exit": reason_of(end), "events": []}
            return trace | {"start": ["error", _fault(end.exception)], "events": self.recorder.events}
        for command in self.script["commands"]:
            trace["results"].append(await self._command(command) if not self.end.is_done else "gone")
            await self._settle()
        if self.end.is_done:
            trace["exit"] = reason_of(await self.end)
        else:
            trace["children"] = await self._children(self.top)
        trace["events"] = list(self.recorder.events)
        return trace

    # Commands

    async def _command(self, command: list[Any]) -> Any:
        match command:
            case ["queued", commands]:
                return await self._queued(commands)
            case ["sleep", milliseconds]:
                self.clock.advance(milliseconds / 1000)
                return "ok"
            case ["exit", path, reason]:
                return await self._exit(tuple(path), reason)
            case ["stop"]:
                self.top.shutdown()
                await self.end
                return "ok"
            case ["check_childspecs", children]:
                return self._check(children)
            case ["change_code", supervisor]:
                return await self._change_code(supervisor)
            case ["at", path, command]:
                supervisor = self.recorder.alive.get(tuple(path))
                return "noproc" if supervisor is None else await self._ask(supervisor, tuple(path), command)
        return await self._ask(self.top, (), command)

    async def _queued(self, commands: list[Any]) -> list[Any]:
        self.top.suspend()
        await asyncio.sleep(0)
        pending: list[Any] = []
        for command in commands:
            if command[0] == "exit":
                result: Any = asyncio.get_running_loop().create_future()
                result.set_result(await self._exit(tuple(command[1]), command[2]))
                pending.append(result)
            else:
                pending.append(self._ask(self.top, (), command))
        self.top.resume()
        return [await each for each in pending]

    async def _exit(self, path: Path, reason: Any) -> str:
        ref = self.recorder.alive.get(path)
        if ref is None:
            return "noproc"
        ended = ref.termination()
        if reason == "kill":
            ref.kill()
        else:
            ref.tell(reason)
        await ended
        return "ok"

    async def _change_code(self, supervisor: Script) -> Any:
        try:
            spec = self._supervisor_spec((), {"id": "top", "supervisor": supervisor})
            change = CodeChange(SupervisorFlags(**spec.kwargs), *spec.args)
        except InvalidSpecification as error:
            return ["error", error.reason]
        return await self._result(self.top.ask(change, block=False))

    def _check(self, children: list[Any]) -> Any:
        try:
            check_child_specs([self._spec((), child) for child in children])
        except InvalidSpecification as error:
            return ["error", error.reason]
        return "ok"

    def _ask(self, supervisor: EventRef[Any], path: Path, command: list[Any]) -> Any:
        """Send the request now; return an awaitable of the result."""
        return self._result(supervisor.ask(self._request(path, command), block=False))

    def _request(self, path: Path, command: list[Any]) -> Any:
        dynamic = self.recorder.strategies.get(path) == "simple_one_for_one"
        match command:
            case ["start_child", child]:
                return StartDynamicChild((child,)) if dynamic else StartChild(self._spec(path, child))
            case ["terminate_child", child_id]:
                ref = self.recorder.alive.get((*path, child_id)) if dynamic else None
                return TerminateChild(ref or child_id)
            case ["which_children"]:
                return WhichChildren()
            case ["count_children"]:
                return CountChildren()
            case [name, child_id]:
                return _BY_ID[name](child_id)
        raise ValueError(f"command {command!r}: expected one of those in script.py")

    async def _result(self, asked: Any) -> Any:
        try:
            return _answer(await asked)
        except pykka.ActorDeadError:
            return "noproc"

    # Specifications

    def _spec(self, path: Path, child: Any) -> Any:
        if not isinstance(child, Mapping):
            return child
        fields = {name: child[key] for key, name in _FIELDS.items() if key in child}
        if "shutdown" in child:
            shutdown = child["shutdown"]
            whole = isinstance(shutdown, int) and not isinstance(shutdown, bool)
            fields["shutdown_seconds"] = shutdown / 1000 if whole else shutdown
        here = (*path, child["id"]) if "id" in child else path
        fields["name"] = "/".join(here)
        if child.get("nostart"):
            return fields
        if "supervisor" in child:
            return self._supervisor_spec(path, child, fields)
        return fields | {"actor_class": Worker, "args": (self.recorder, here, child)}

    def _supervisor_spec(self, path: Path, child: Mapping[str, Any], fields: Mapping[str, Any] | None = None) -> Any:
        script = child["supervisor"]
        here = path if fields is None else (*path, child["id"])
        strategy = script.get("strategy", "one_for_one")
        dynamic = strategy == "simple_one_for_one"
        flags = {name: script[key] for key, name in _FLAGS.items() if key in script}
        specs = [self._spec(here, one) for one in script.get("children", [])]
        if dynamic:  # whose children say at their start who they are
            specs = [
                spec | {"args": (self.recorder, here, spec["args"][2])} if "args" in spec else spec for spec in specs
            ]
        else:
            flags["strategy"] = strategy
        made = _made(DynamicSupervisor if dynamic else Supervisor, self.recorder, here, script)
        if fields is None:
            return ChildSpec("top", made, (specs,), flags)
        return {**fields, "actor_class": made, "args": (specs,), "kwargs": flags}

    # Coming to rest

    async def _settle(self) -> None:
        before: Any = None
        while True:
            now = None if self.end.is_done else await self._snapshot(self.top)
            now = (now, len(self.recorder.events))
            if now == before and "restarting" not in repr(now):
                return
            before = now
            for _ in range(5):
                await asyncio.sleep(0)

    async def _snapshot(self, supervisor: EventRef[Any]) -> Any:
        try:
            children = await supervisor.ask(WhichChildren(), block=False)
        except pykka.ActorDeadError:
            return "gone"
        return [
            (one.id, one.state, id(one.ref), await self._snapshot(one.ref))
            if one.ref is not None and issubclass(one.actor_class, BaseSupervisor)
            else (one.id, one.state, id(one.ref), one.ref is not None and one.ref.is_alive())
            for one in children
        ]

    async def _children(self, supervisor: EventRef[Any]) -> Any:
        try:
            children = await supervisor.ask(WhichChildren(), block=False)
        except pykka.ActorDeadError:
            return "gone"
        return [
            [one.id, one.state, one.child_type, await self._children(one.ref)]
            if one.ref is not None and one.child_type == "supervisor"
            else [one.id, one.state, one.child_type]
            for one in children
        ]


def _answer(answer: Any) -> Any:
    match answer:
        case Done():
            return "ok"
        case ChildStarted(ref, info):
            started = ["ok", None if ref is None else "pid"]
            return started if info is None else [*started, info]
        case StartFailed(exception):
            return ["error", ["start_failed", _fault(exception)]]
        case Refused("already_started"):
            return ["error", ["already_started", "pid"]]
        case Refused(reason):
            return ["error", reason]
        case ChildCounts(specs, active, supervisors, workers):
            return [["specs", specs], ["active", active], ["supervisors", supervisors], ["workers", workers]]
        case ChildSpec():
            return ["ok", _spec_as_data(answer)]
        case tuple():
            return [[one.id, one.state, one.child_type] for one in answer]
    raise TypeError(f"an answer of a supervisor that no script expects: {answer!r}")


def _spec_as_data(spec: ChildSpec) -> dict[str, Any]:
    shutdown = spec.shutdown_seconds
    return {
        "id": spec.id,
        "restart": spec.restart,
        "shutdown": shutdown if isinstance(shutdown, str) or shutdown is None else round(shutdown * 1000),
        "type": spec.child_type,
        "significant": spec.significant,
    }


def _fault(exception: BaseException | None) -> Any:
    match exception:
        case FailedToStartChild():
            return ["failed_to_start_child", exception.child_id, _fault(exception.__cause__)]
        case InvalidSpecification():
            return exception.reason
    return "failed"
