"""The command line: ``callboard``. See docs/cli.md.

The commands are imported when they are first asked for: a worker process, started by another one, needs few of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .root import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .root import main

    return main
