"""What a parent decides for one of the processes that it starts, one after the other, in the same place."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One process of several in a row.

    Attributes:
        node: this process's name in history and listings. The parent chooses it, so that it knows whose leases end
            with the process even if that never came to say a word.
        ended_nodes: the names of processes that are dead for certain, because their parent has reaped them. What they
            ran is taken back at once, and not only when its leases expire.
        listening: a socket that listens already, for ``/metrics`` and the probes; None: the port of the settings.
    """

    node: str
    ended_nodes: tuple[str, ...] = ()
    listening: socket.socket | None = None
