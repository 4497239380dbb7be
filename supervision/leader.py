"""The leader actor: campaigns, leads while it can prove it, hands over, and ends with its session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, assert_never

from callboard.actors.actor import EventActor
from callboard.actors.control import Stop
from callboard.actors.errors import ConfigurationError, NotLeader, StoreError
from callboard.actors.leadership import Deposition, Standing
from callboard.actors.messages import Terminated
from callboard.actors.ports import LeaderLock, LeaderSession
from callboard.actors.ref import EventRef

from .backoff import Backoff
from .duty import Duty
from .leader_telemetry import LeaderTelemetry, LockLoss, NoLeaderTelemetry
from .leadership import CurrentLeadership, Leadership
from .supervisor import Supervisor
from .supervisor_telemetry import SupervisorTelemetry
from .trust_window import TrustWindow

_log = logging.getLogger(__name__)

OTHERS_FIRST_SECONDS: Final = 2.0
"""How long a leader that handed over stands back: longer than the pause between two waits of a standby."""
FAILED_DUTIES_SECONDS: Final = 10.0
"""How long it stands back because its duties crash: perhaps they do not on another node."""
MAX_DUTY_RESTARTS: Final = 5
DUTY_RESTART_PERIOD_SECONDS: Final = 60
DUTY_BACKOFF: Final = Backoff(initial_seconds=0.2, max_seconds=5.0, uncounted=(StoreError,))
SHUTDOWN_SECONDS: Final = 15.0
"""Of the leader: its duties' own times, and the way of the lock."""


class Open(NamedTuple):
    """Open a session."""


class Opened(NamedTuple):
    """There is one."""


class Campaigned(NamedTuple):
    """A wait for the lock has ended, one way or the other."""

    asked_at: float
    standing: Standing


class Deposed(NamedTuple):
    """The leader of a term was silent, and something was done about it."""

    term: int
    outcome: Deposition


class Proved(NamedTuple):
    """The session has lock and term still."""

    asked_at: float
    step_down: bool


class Lapsed(NamedTuple):
    """No proof has come in time."""


class Resigned(NamedTuple):
    """The lock was given back."""


class Campaign(NamedTuple):
    """Stand (again)."""


class Failed(NamedTuple):
    """Something failed, and the session with it."""

    exception: BaseException


LeaderMessage: TypeAlias = (
    Open | Opened | Campaigned | Deposed | Proved | Lapsed | Resigned | Campaign | Failed | Terminated
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who stands for election, and how.

    Attributes:
        node: its name.
        window: how long a proof holds.
        refused_retry_seconds: when to try again where a pooler is in between.
    """

    node: str
    window: TrustWindow
    refused_retry_seconds: float


class Leader(EventActor):
    """One node's part in the election of the leader.

    It owns one session. As a standby it waits for the lock there, and deposes a leader that was silent for too long. As
    the leader it starts the duties, below a supervisor of their own, and proves itself again and again. The end of the
    session ends the actor; its supervisor starts it again.

    Args:
        lock: where sessions come from.
        candidate: who it is.
        duties: what to start with each term.
        current: told of the beginnings and ends of terms here.
        telemetry: measurements; default: none.
        supervisor_telemetry: those of the duties' supervisor; default: none.
    """

    expected_failures = (StoreError,)

    def __init__(
        self,
        lock: LeaderLock,
        candidate: Candidate,
        duties: Sequence[Duty],
        current: CurrentLeadership,
        *,
        telemetry: LeaderTelemetry | None = None,
        supervisor_telemetry: SupervisorTelemetry | None = None,
    ) -> None:
        super().__init__()
        self._lock = lock
        self._candidate = candidate
        self._window = candidate.window
        self._duties = tuple(duties)
        self._current = current
        self._telemetry: LeaderTelemetry = telemetry or NoLeaderTelemetry()
        self._supervisor_telemetry = supervisor_telemetry
        self._session: LeaderSession | None = None
        self._leadership: Leadership | None = None
        self._supervisor: EventRef[Supervisor] | None = None
        self._proof: asyncio.Task[Proved] | None = None
        self._last_resort: asyncio.Task[None] | None = None
        self._leaving: LockLoss | None = None
        self._stand_back_seconds = 0.0
        self._seen_term: int | None = None
        self._untouchable_term: int | None = None

    # Hooks

    def on_start(self) -> None:
        """Open the session."""
        self.on_receive(Open())

    def on_receive(self, message: LeaderMessage) -> None:
        """Take the next step."""
        match message:
            case Open():
                self._pipe(self._open(), Opened())
            case Opened() | Campaign():
                self.context.pipe_to_self(self._campaign(), on_failure=Failed)
            case Campaigned(asked_at, standing):
                self._campaigned(asked_at, standing)
            case Deposed(term, outcome):
                self._deposed(term, outcome)
            case Proved(asked_at, step_down):
                self._proved(asked_at, step_down)
            case Lapsed():
                self._step_down("expired", "no proof of it came within the trust window")
            case Terminated():
                self._duties_ended()
            case Resigned():
                self._resigned()
            case Failed(exception):
                self._failed(exception)
            case _:
                assert_never(message)

    async def on_stop(self) -> None:  # type: ignore[override]  # Pykka's hooks are ordinary functions, ours may wait
        """Hand over. The duties have ended before."""
        try:
            if self._leadership is not None:
                self._stop_proving()
                await self._resign()
                self._lost("resigned")
        except (StoreError, NotLeader) as error:
            _log.warning("cannot hand over in order: %s", error)
        finally:
            await self._close()

    async def on_failure(self, *_: object) -> None:  # type: ignore[override]
        """End the session, if it has not ended."""
        await self._close()

    # Standing by

    async def _open(self) -> None:
        self._session = await self._lock.open(answer_limit_seconds=self._window.answer_limit_seconds)
        self._last_resort = asyncio.ensure_future(self._close_at_the_end())

    async def _close_at_the_end(self) -> None:
        """Close the session even where no hook runs, because this actor was killed: nobody else could lead then."""
        try:
            await self.actor_ref.termination()
        finally:
            await self._close()

    async def _campaign(self) -> Campaigned:
        asked_at = self._now()
        standing = await self._own_session().campaign(
            self._candidate.node, silence_limit_seconds=self._window.silence_limit_seconds
        )
        return Campaigned(asked_at, standing)

    def _campaigned(self, asked_at: float, standing: Standing) -> None:
        self.context.report_success()
        self._see(standing)
        if standing.won:
            self._lead(standing.term, asked_at)
        elif standing.silent_too_long and standing.term != self._untouchable_term:
            _log.warning(
                "the leader %s has given no sign of life for %.1f s: its session is ended",
                standing.holder,
                standing.silent_seconds,
            )
            self.context.pipe_to_self(
                self._own_session().depose(standing.term), partial(Deposed, standing.term), Failed
            )
        else:
            self.on_receive(Campaign())

    def _see(self, standing: Standing) -> None:
        self._telemetry.term_seen(standing.term)
        if standing.term == self._seen_term:
            return
        if self._seen_term is not None:
            self._telemetry.leader_changed()
        if standing.won:
            self._telemetry.election_ended("won")
        elif standing.term:
            self._telemetry.election_ended("lost")
        self._seen_term = standing.term

    def _deposed(self, term: int, outcome: Deposition) -> None:
        if outcome is Deposition.REFUSED:
            self._untouchable_term = term
            _log.error(
                "the leader of term %d is silent, and this role may not end its session: wait until PostgreSQL finds "
                "it dead, or end it by hand; let all nodes use one role, or grant pg_signal_backend",
                term,
            )
        self.on_receive(Campaign())

    # Leading

    def _lead(self, term: int, asked_at: float) -> None:
        clock = self.context.system.clock
        leadership = Leadership(term, asked_at, self._window, clock)
        self._leadership = leadership
        _log.info("%s leads, term %d", self._candidate.node, term)
        self._current.begin(leadership)
        self._telemetry.lock_acquired(clock.now())
        self._supervisor = self.context.spawn(
            Supervisor,
            [duty(leadership) for duty in self._duties],
            name="duties",
            intensity=MAX_DUTY_RESTARTS,
            period_seconds=DUTY_RESTART_PERIOD_SECONDS,
            backoff=DUTY_BACKOFF,
            telemetry=self._supervisor_telemetry,
        )
        self.context.watch(self._supervisor)
        self._keep_proving(asked_at)

    def _keep_proving(self, asked_at: float) -> None:
        left_seconds = self._window.expires_at(asked_at) - self._now()
        self.context.start_timer("lapse", max(0.0, left_seconds), Lapsed())
        self._proof = asyncio.ensure_future(self._prove_later())
        self.context.pipe_to_self(self._proof, on_failure=Failed)

    async def _prove_later(self) -> Proved:
        session, leadership = self._own_session(), self._leadership
        assert leadership is not None
        await session.watch(self._window.proof_interval_seconds)
        asked_at = self._now()
        return Proved(asked_at, await session.prove(leadership.term))

    def _proved(self, asked_at: float, step_down: bool) -> None:
        if self._leadership is None or self._proof is None:
            return  # it is being given back
        if not self._leadership.prove(asked_at):
            self._step_down("expired", "this process stood still for longer than the trust window")
        elif step_down:
            self._step_down("resigned", "it was asked to", OTHERS_FIRST_SECONDS)
        if self._leaving != "expired":
            self._telemetry.lock_proved(self.context.system.clock.now())
            self._keep_proving(asked_at)  # its duties may take a while to end

    # Handing over

    def _step_down(self, reason: LockLoss, why: str, stand_back_seconds: float = 0.0) -> None:
        if self._leadership is None or self._leaving is not None:
            return
        _log.warning("%s hands over term %d: %s", self._candidate.node, self._leadership.term, why)
        self._leaving = reason
        self._stand_back_seconds = stand_back_seconds
        self.context.cancel_timer("lapse")
        if self._supervisor is None:
            self._release()
        else:
            self._supervisor.shutdown()

    def _duties_ended(self) -> None:
        self._supervisor = None
        if self._leaving is None:
            self._step_down("resigned", "its duties crash, see above", FAILED_DUTIES_SECONDS)
        else:
            self._release()

    def _release(self) -> None:
        self._stop_proving()
        self._pipe(self._resign(), Resigned())

    async def _resign(self) -> None:
        assert self._leadership is not None
        await self._own_session().resign(self._leadership.term)

    def _resigned(self) -> None:
        if self._leaving is not None:
            self._lost(self._leaving)
        self._leaving = None
        if self._stand_back_seconds:
            self.context.start_timer("stand back", self._stand_back_seconds, Campaign())
        else:
            self.on_receive(Campaign())

    # The end of the session

    def _failed(self, exception: BaseException) -> None:
        if isinstance(exception, asyncio.CancelledError):
            return  # a proof that is not wanted any more
        if self._leadership is None:
            self._telemetry.election_ended("error")
        match exception:
            case ConfigurationError() if self._session is None:
                pause = self._candidate.refused_retry_seconds
                _log.error("this node takes no part in elections, next try in %.0f s: %s", pause, exception)
                self.context.start_timer("open", pause, Open())
            case NotLeader():
                _log.warning("%s was deposed: %s", self._candidate.node, exception)
                self._lost("expired")
                raise Stop("deposed")
            case _:
                raise exception

    async def _close(self) -> None:
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.cancel()
        self._lost("connection_lost")
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _lost(self, reason: LockLoss) -> None:
        if self._leadership is not None:
            self._leadership = None
            self._telemetry.lock_lost(reason)
        self._current.end()

    def _stop_proving(self) -> None:
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.cancel()
        self.context.cancel_timer("lapse")

    def _own_session(self) -> LeaderSession:
        assert self._session is not None, "a session is opened before anything else, and closed last"
        return self._session

    def _now(self) -> float:
        return self.context.system.clock.monotonic()

    def _pipe(self, work: Any, done: LeaderMessage) -> None:
        self.context.pipe_to_self(work, lambda _: done, Failed)
