"""Is this process alive, has it started, should it get work: rules over a small state, and the registry that keeps it.

Liveness depends on nothing outside the process, or one database outage would restart every process at once.
Readiness does depend on the database. A process that drains is alive and not ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from types import MappingProxyType

from callboard.actors.clock import Clock
from callboard.actors.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class HealthState:
    """What is known about this process at one moment."""

    hang_limit_seconds: float
    """An event loop silent for so long counts as hung."""
    heartbeat_age_seconds: float
    """Since the event loop showed that it lives (or since the start, before it first did)."""
    store_check_limit_seconds: float
    """A check of the store older than this says nothing."""
    store_check_age_seconds: float | None = None
    """Since the store was last checked; None: not yet."""
    store_error: str | None = None
    """What the last check of the store found wrong: unreachable, schema missing or of another revision."""
    uses_store: bool = True
    """Whether the process has to do with the store at all."""
    started: bool = False
    draining: bool = False
    gave_up: str | None = None
    """Why the root supervisor ended; None while it runs."""
    failing: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Parts that do not work now, each with its reason."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe: fine when there is no reason against it."""

    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def liveness(state: HealthState) -> Verdict:
    """Tell whether the process should go on; if not, only a restart helps."""
    reasons = []
    if state.heartbeat_age_seconds >= state.hang_limit_seconds:
        reasons.append(
            f"the event loop has been silent for {state.heartbeat_age_seconds:.1f} s "
            f"(hang_limit_seconds is {state.hang_limit_seconds:g})"
        )
    if state.gave_up is not None:
        reasons.append(f"the root supervisor gave up: {state.gave_up}")
    return Verdict(tuple(reasons))


def startup(state: HealthState) -> Verdict:
    """Tell whether the process has started; stays true once it is."""
    return Verdict(() if state.started else ("starting: not all parts run yet",))


def readiness(state: HealthState) -> Verdict:
    """Tell whether the process can do its work now."""
    return Verdict((*startup(state).reasons, *_draining(state), *liveness(state).reasons, *_degraded(state)))


def readiness_state(state: HealthState) -> str:
    """Return ``starting``, ``draining``, ``degraded`` or ``ready``: the first that holds, in this order."""
    if not state.started:
        return "starting"
    if state.draining:
        return "draining"
    return "ready" if readiness(state).ok else "degraded"


def _draining(state: HealthState) -> tuple[str, ...]:
    return ("draining: the process stops and takes no new work",) if state.draining else ()


def _degraded(state: HealthState) -> tuple[str, ...]:
    reasons = [f"{part}: {reason}" for part, reason in sorted(state.failing.items())]
    if not state.uses_store:
        return tuple(reasons)
    if state.store_check_age_seconds is None:
        reasons.append("store: not checked yet")
    elif state.store_error is not None:
        reasons.append(f"store: {state.store_error}")
    elif state.store_check_age_seconds >= state.store_check_limit_seconds:
        reasons.append(
            f"store: last checked {state.store_check_age_seconds:.1f} s ago "
            f"(expected within {state.store_check_limit_seconds:g} s)"
        )
    return tuple(reasons)


class HealthRegistry:
    """Keeps the state that probes ask for. The runtime feeds it; every method may be called from any thread.

    Args:
        clock: where ages come from.
        hang_limit_seconds: how long the event loop may be silent; ``Settings.hang_limit_seconds``.
        store_check_limit_seconds: how long a check of the store holds, default 15.
        uses_store: whether the process has to do with the store at all (default).

    Raises:
        ConfigurationError: a limit is not more than 0.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        hang_limit_seconds: float,
        store_check_limit_seconds: float = 15.0,
        uses_store: bool = True,
    ) -> None:
        for name, limit in (
            ("hang_limit_seconds", hang_limit_seconds),
            ("store_check_limit_seconds", store_check_limit_seconds),
        ):
            if not limit > 0:
                raise ConfigurationError(f"{name} {limit!r}: expected seconds, more than 0")
        self._clock = clock
        self._lock = Lock()
        self._beat_at = clock.monotonic()
        self._store_checked_at: float | None = None
        # The ages in here are filled in when somebody asks.
        self._known = HealthState(
            hang_limit_seconds=hang_limit_seconds,
            heartbeat_age_seconds=0.0,
            store_check_limit_seconds=store_check_limit_seconds,
            uses_store=uses_store,
        )

    def beat(self) -> None:
        """Show that the event loop lives: called on it, a few times within the hang limit."""
        self._beat_at = self._clock.monotonic()

    def startup_finished(self) -> None:
        """Say that everything runs."""
        self._change(started=True)

    def draining(self) -> None:
        """Say that the process stops: not ready from now on, and alive."""
        self._change(draining=True)

    def gave_up(self, reason: str) -> None:
        """Say that the root supervisor has ended: not alive from now on."""
        self._change(gave_up=reason)

    def store_checked(self, error: str | None = None) -> None:
        """Record a check of the store.

        Args:
            error: what is wrong (unreachable; schema missing or of another revision); None (default): nothing.
        """
        with self._lock:
            self._store_checked_at = self._clock.monotonic()
            self._known = replace(self._known, store_error=error)

    def part_failing(self, part: str, reason: str) -> None:
        """Say that a part does not work: not ready until ``part_working`` is called for it."""
        with self._lock:
            self._known = replace(self._known, failing=MappingProxyType({**self._known.failing, part: reason}))

    def part_working(self, part: str) -> None:
        """Say that a part works (again)."""
        with self._lock:
            rest = {name: reason for name, reason in self._known.failing.items() if name != part}
            self._known = replace(self._known, failing=MappingProxyType(rest))

    def state(self) -> HealthState:
        """Return what is known now."""
        now = self._clock.monotonic()
        with self._lock:
            checked_at = self._store_checked_at
            return replace(
                self._known,
                heartbeat_age_seconds=now - self._beat_at,
                store_check_age_seconds=None if checked_at is None else now - checked_at,
            )

    def readiness_state(self) -> str:
        """Return ``readiness_state`` of the state now, for ``PrometheusTelemetry``."""
        return readiness_state(self.state())

    def _change(self, **changes: bool | str) -> None:
        with self._lock:
            self._known = replace(self._known, **changes)  # type: ignore[arg-type]
