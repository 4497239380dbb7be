"""A process that starts an embedded server, prints where, and keeps it until its standard input ends.

For tests that kill a server's owner, or that need several at once, or one that is an ordinary user.
Usage: ``python -m tests.support.server_owner [--fork] [FOLDER]``; ``--fork`` also forks a child, which lives on.
"""

import json
import os
import select
import sys
from pathlib import Path

from callboard.persistence.embedded import EmbeddedServer

FORKED_CHILD_SECONDS = 60


def main(arguments: list[str]) -> None:
    fork = "--fork" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--fork"]
    with EmbeddedServer(folders[0] if folders else None) as server:
        child = fork_child() if fork else None
        json.dump({"url": server.url, "pid": server.pid, "user": os.geteuid(), "child": child}, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()
        sys.stdin.read()


def fork_child() -> int:
    """Start a child that holds every file we have open, as a fork of multiprocessing does."""
    child = os.fork()
    if child == 0:
        select.select([], [], [], FORKED_CHILD_SECONDS)
        os._exit(0)
    return child


if __name__ == "__main__":
    main(sys.argv[1:])
