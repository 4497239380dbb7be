"""Splitting a stream of bytes into lines, whatever the blocks in which it comes."""

from __future__ import annotations


class LineSplitter:
    r"""Takes blocks, returns complete lines: without their ends, be they ``\n`` or ``\r\n``, and without blank ones.

    A block may end anywhere, also between ``\r`` and ``\n`` or within a character.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines that this block completes."""
        if b"\n" not in block:
            self._parts.append(block)
            return []
        first, *others = block.split(b"\n")
        lines = [b"".join((*self._parts, first)), *others[:-1]]
        self._parts = [others[-1]]
        return [stripped for line in lines if (stripped := line.strip())]

    def end(self) -> list[bytes]:
        """Return what stands after the last line's end: the last line, or the torn-off beginning of one."""
        rest = b"".join(self._parts).strip()
        self._parts = []
        return [rest] if rest else []
