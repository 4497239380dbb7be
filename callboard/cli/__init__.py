"""The command line: ``callboard``. See docs/cli.md."""

from .root import main

__all__ = ["main"]
