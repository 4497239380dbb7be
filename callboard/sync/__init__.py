"""The same runtime for code without an event loop: scripts, Django views, shells.

::

    from callboard.sync import Runtime

    with Runtime(settings) as runtime:
        ref = runtime.spawn(summarize, 42)
        print(ref.result(timeout=30))

The asynchronous runtime runs on a loop in a thread of its own; every method here waits for its counterpart there, and
may be called from any thread. Arguments, results and errors are those of ``callboard.Runtime``.
"""

from .batch_ref import BatchRef
from .job_ref import JobRef
from .runtime import Runtime
from .schedules import Schedules

__all__ = ["BatchRef", "JobRef", "Runtime", "Schedules"]
