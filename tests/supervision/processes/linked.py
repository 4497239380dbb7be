"""A program with a ``ParentLink``: writes what it hears to its stdout; SIGTERM ends it if its greeting says so."""

import signal
import sys
import threading

from callboard.supervision.processes.parent_link import ParentLink


def heard(what: object) -> None:
    print(what, flush=True)


link = ParentLink()
heard(link.wait_assignment(beat_interval_seconds=link.greeting["beat_interval_seconds"]))
signal.signal(signal.SIGTERM, lambda *_: heard("SIGTERM") or (link.greeting["ends"] and sys.exit(0)))
link.listen(
    on_retire=lambda: heard("retire"),
    on_hurry=lambda: heard("hurry"),
    on_notice=heard,
    orphan_limit_seconds=link.greeting["orphan_limit_seconds"],
)
link.ready()
link.beat()
link.failed("no reason")
while True:
    threading.Event().wait(0.05)  # signals are handled in between
