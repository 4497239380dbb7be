"""How a supervisor treats all of its children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from callboard.actors.errors import InvalidSpecification

from .backoff import Backoff
from .child_spec import AutoShutdown
from .restart_window import check_intensity
from .strategy import Strategy


@dataclass(frozen=True, slots=True)
class SupervisorFlags:
    """The flags of a supervisor. Defaults are OTP's (rule A1).

    Attributes:
        strategy: who is restarted with a child that has ended: nobody (``one_for_one``, default), everybody
            (``one_for_all``), those started after it (``rest_for_one``).
        intensity: how many restarts the period may hold; one more and the supervisor gives up. Default 1. None, only
            with ``backoff``: any number.
        period_seconds: length of that period in whole seconds, default 5.
        auto_shutdown: whether the end of significant children ends the supervisor; default ``never``.
        backoff: delays before restarts; default (None): restart at once, as OTP does (B8).

    Raises:
        InvalidSpecification: a flag has a value that it cannot have; the message names both (rule A4).
    """

    strategy: Strategy = "one_for_one"
    intensity: int | None = 1
    period_seconds: int = 5
    auto_shutdown: AutoShutdown = "never"
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise InvalidSpecification(
                "invalid_strategy",
                f"supervisor strategy {self.strategy!r}: expected one of {', '.join(get_args(Strategy))}",
            )
        check_intensity(self.intensity, self.period_seconds)
        if self.intensity is None and self.backoff is None:
            raise InvalidSpecification(
                "invalid_intensity",
                "supervisor intensity None: expected a number, or a backoff beside it: without limit and without "
                "delay a child that cannot start would keep the process busy for ever",
            )
        if self.auto_shutdown not in get_args(AutoShutdown):
            raise InvalidSpecification(
                "invalid_auto_shutdown",
                f"supervisor auto_shutdown {self.auto_shutdown!r}: expected one of {', '.join(get_args(AutoShutdown))}",
            )
