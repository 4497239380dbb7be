"""When jobs may be taken back from nodes that give no sign of life: not while the living could give none. Pure."""

from __future__ import annotations

from typing import Final

RENEWALS_FIRST: Final = 2 / 3
"""For this part of a lease nothing is taken back; renewals come each third of a lease."""
RECONNECT_SECONDS: Final = 3.0
"""And for so long at least: who was just connecting when the network came back notices it only then."""


def renewal_grace_seconds(lease_seconds: float) -> float:
    """Return how long the living may take to renew their leases, once they can."""
    return max(lease_seconds * RENEWALS_FIRST, RECONNECT_SECONDS)
