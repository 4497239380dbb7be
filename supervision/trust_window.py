"""How long a leader may trust a proof, when it proves itself again, and when others depose it: arithmetic only.

The order of these times is what keeps two leaders apart: a leader stops acting ``seconds`` after it *asked* for its
last proof, by its own clock; its heartbeat, which is written later than that, must be half a window older still before
a standby ends its session. The clocks need not agree, only run at the same speed.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard.actors.errors import ConfigurationError
from callboard.actors.patience import ANSWER_SECONDS, CONNECT_SECONDS, WAIT_SECONDS

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

    def takeover_seconds(self, answer_seconds: float) -> float:
        """Return the longest time from a leader's last sign of life to the next term, with one standby that works.

        Just before the silence is long enough that standby begins to wait for the lock once more. Then it asks how
        things stand, ends the leader's session, and gets the lock and the term.

        Args:
            answer_seconds: within which the database answers each of the three statements.
        """
        return self.silence_limit_seconds + WAIT_SECONDS + 3 * answer_seconds

    def unlucky_takeover_seconds(self, answer_seconds: float, restart_seconds: float) -> float:
        """Return the same where the session of the only standby dies as well, without a word, at the worst moment.

        Its last wait for the lock gets no answer. It gives the session up, opens another one, asks how things stand
        without waiting, and goes on as above.

        Args:
            answer_seconds: within which the database answers each statement on the new session: two that open it, and
                three.
            restart_seconds: the longest delay before the first restart of a leader actor.
        """
        given_up_seconds = WAIT_SECONDS + ANSWER_SECONDS
        reconnected_seconds = restart_seconds + CONNECT_SECONDS
        return self.silence_limit_seconds + given_up_seconds + reconnected_seconds + 5 * answer_seconds
