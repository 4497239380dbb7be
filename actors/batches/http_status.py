"""What a refusal over HTTP means for what comes next. Pure; the same for every provider."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from .provider import FailureKind

_CREDENTIALS: Final = frozenset({401, 402, 403})
"""Nobody may do this with the key, or nobody has paid: other calls will not succeed either."""
_PASSING: Final = frozenset({408, 409, 425, 429})
_MAYBE_DONE: Final = frozenset({408})


def failure_kind(status: int) -> FailureKind:
    """Return what a status of 400 or more means (RFC 9110 §15.5, §15.6; 529 is Anthropic's "overloaded")."""
    if status in _CREDENTIALS:
        return FailureKind.CREDENTIALS
    if status == 404:
        return FailureKind.NOT_FOUND
    if status in _PASSING or status >= 500:
        return FailureKind.PASSING
    return FailureKind.REFUSED


def in_doubt(status: int) -> bool:
    """Tell whether a request that was answered so may have been carried out all the same."""
    return status >= 500 or status in _MAYBE_DONE


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long an answer asks to wait (RFC 9110 §10.2.3); None if it does not, or not in a readable way.

    A date counts from the answer's own ``Date``, whatever the clocks here say.
    """
    text = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
