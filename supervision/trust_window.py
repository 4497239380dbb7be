"""How long a leader may trust a proof, when it proves itself again, and when others may depose it: arithmetic only.

The order of these times is what keeps two leaders apart: a leader stops acting ``seconds`` after it *asked* for its
last proof, by its own clock; its heartbeat, which is written later than that, must be half a window older still before
a standby ends its session. The clocks need not agree, only run at the same speed.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard.actors.errors import ConfigurationError

PROOFS_PER_WINDOW = 4
"""Two proofs may be slow, or one fail to come, before trust lapses."""
SILENCE_PER_WINDOW = 1.5


@dataclass(frozen=True, slots=True)
class TrustWindow:
    """The times of a leader.

    Attributes:
        seconds: how long a proof holds.

    Raises:
        ConfigurationError: it is not more than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise ConfigurationError(f"trust window {self.seconds!r}: expected seconds, more than 0")

    @property
    def proof_interval_seconds(self) -> float:
        """How long after one proof the next is asked for."""
        return self.seconds / PROOFS_PER_WINDOW

    @property
    def answer_limit_seconds(self) -> float:
        """How long a proof may take: asked for one interval after the last, it comes while that still holds."""
        return self.seconds - self.proof_interval_seconds

    @property
    def silence_limit_seconds(self) -> float:
        """Age of the heartbeat beyond which a standby may depose the leader."""
        return self.seconds * SILENCE_PER_WINDOW

    def expires_at(self, proved_at: float) -> float:
        """Return when the proof that was asked for at ``proved_at`` holds no longer; both by one monotonic clock."""
        return proved_at + self.seconds

    def trusts(self, proved_at: float, now: float) -> bool:
        """Tell whether a proof that was asked for at ``proved_at`` still holds."""
        return now < self.expires_at(proved_at)
