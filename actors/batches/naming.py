"""How a request is named at the provider: by its batch and its place in it.

A provider's ids allow few characters and may not be given twice, and one provider offers nothing else by which a batch
could be found again. So the name says whose it is, whatever the caller's own ids look like.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

_WIRE_ID: Final = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,8})")


def reference(batch_id: UUID) -> str:
    """Return the reference of a batch: what its submission is recognized by."""
    return batch_id.hex


def wire_id(batch_reference: str, position: int) -> str:
    """Return the name of a request, of at most 42 of the characters ``[0-9a-f-]``."""
    return f"{batch_reference}-{position}"


def position_of(batch_reference: str, name: str, total: int) -> int | None:
    """Return the place of a request in its batch; None if the name is of no request of it.

    Args:
        batch_reference: of the batch.
        name: as the provider returned it.
        total: how many requests the batch has.
    """
    found = _WIRE_ID.fullmatch(name)
    if found is None or found[1] != batch_reference or int(found[2]) >= total:
        return None
    return int(found[2])


def belongs(batch_reference: str, name: str) -> bool:
    """Tell whether a request of this name was sent by a submission of the batch."""
    found = _WIRE_ID.fullmatch(name)
    return found is not None and found[1] == batch_reference
