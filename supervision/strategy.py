"""What follows from a child's end, as functions of their arguments. The rules are Erlang/OTP's, by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from .child_spec import AutoShutdown, Restart

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Consequence: TypeAlias = Literal["restart", "keep", "forget"]
"""What becomes of a child that has ended by itself: started again; kept, down; or removed with its specification."""


def consequence(restart: Restart, *, abnormal: bool) -> Consequence:
    """Return what becomes of a child that has ended by itself (rules C1 to C3)."""
    if restart == "permanent" or (restart == "transient" and abnormal):
        return "restart"
    return "forget" if restart == "temporary" else "keep"


def affected(strategy: Strategy, ids: Sequence[str], ended: str) -> Sequence[str]:
    """Return who is started again with the child ``ended``, itself included, in starting order (rules D1 to D4).

    Args:
        strategy: the supervisor's.
        ids: all children in starting order, those that are down included.
        ended: one of them.
    """
    match strategy:
        case "one_for_one":
            return (ended,)
        case "rest_for_one":
            return ids[ids.index(ended) :]
        case "one_for_all":
            return ids


def shuts_down(auto_shutdown: AutoShutdown, *, significant: bool, others: Iterable[bool]) -> bool:
    """Tell whether a supervisor ends because a child has ended by itself, for good (rules I1 to I4).

    Args:
        auto_shutdown: the supervisor's.
        significant: whether that child is.
        others: for each of the other children that run or are about to be started again, whether it is significant.
    """
    match auto_shutdown:
        case "never":
            return False
        case "any_significant":
            return significant
        case "all_significant":
            return significant and not any(others)
