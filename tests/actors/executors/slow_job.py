"""A module whose import takes for ever in a child process."""

import sys
import time

from callboard import JobRegistry, job

REGISTRY = JobRegistry()


@job(executor="process", registry=REGISTRY)
def slow() -> None: ...


if sys.argv[0] == "-c":  # the tests import it, too
    time.sleep(600)
