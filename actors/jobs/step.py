"""What a step of a job may be called, and how its result is kept. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from callboard.actors.errors import InvalidArguments, InvalidResult, PayloadTooLarge

STEP_KEY_CHARACTERS: Final = 200


def checked_key(key: object, call: str) -> str:
    """Return the key of a call, under which its result is found again.

    Args:
        key: as given.
        call: what was called, for the message.

    Raises:
        InvalidArguments: it is no text that can be kept.
    """
    if not isinstance(key, str) or not 0 < len(key) <= STEP_KEY_CHARACTERS or not key.isprintable():
        raise InvalidArguments(
            f"{call}: key: got {key!r}, expected a text of 1 to {STEP_KEY_CHARACTERS} printable characters"
        )
    return key


def encode_step(key: str, value: object, limit_bytes: int) -> str:
    """Return the result of a step as JSON text, in ASCII.

    Raises:
        InvalidResult: JSON cannot hold it.
        PayloadTooLarge: it takes more than ``limit_bytes``.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResult(
            f"ctx.step {key!r}: the function returned {type(value).__name__}, which JSON cannot hold ({error}). It has "
            f"run, and nothing is kept of it: return texts, numbers, lists and dicts"
        ) from error
    if len(text) > limit_bytes:
        raise PayloadTooLarge(
            f"ctx.step {key!r}: the function returned {len(text):,} bytes of JSON; at most {limit_bytes:,} are kept "
            f"(CALLBOARD_RESULT_LIMIT_BYTES). Store it elsewhere and return where"
        )
    return text


def decode_step(text: str) -> Any:
    """Return the result of a step as it is kept."""
    return json.loads(text)
