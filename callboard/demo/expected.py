"""What the jobs must find out together: the same by a plain loop, without Callboard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .library import FileDigest, ModuleSize, Tally, digest, longest, measure


@dataclass(frozen=True, slots=True)
class Totals:
    """What is known of a library."""

    files: int
    size_bytes: int
    sha256: str
    """Of the files' own digests, in the order of their paths."""
    modules: int
    lines: int
    functions: int
    classes: int
    longest: tuple[ModuleSize, ...]


def totals_of(digests: Iterable[FileDigest], tally: Tally) -> Totals:
    """Return the totals of what jobs found."""
    files = sorted(digests, key=lambda file: file.path)
    return Totals(
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        sha256=hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
        modules=tally.modules,
        lines=tally.lines,
        functions=tally.functions,
        classes=tally.classes,
        longest=tally.longest,
    )


def plain_loop(modules: Sequence[Path]) -> Totals:
    """Return the totals of some modules, one after the other, in this thread."""
    size_bytes = lines = functions = classes = 0
    all_digests = hashlib.sha256()
    sizes = []
    for path in sorted(modules):
        file, size = digest(path), measure(path)
        size_bytes += file.size_bytes
        all_digests.update(file.sha256.encode())
        lines += size.lines
        functions += size.functions
        classes += size.classes
        sizes.append(size)
    return Totals(
        len(sizes), size_bytes, all_digests.hexdigest(), len(sizes), lines, functions, classes, longest(sizes)
    )


def differences(found: Totals, expected: Totals) -> list[str]:
    """Return in what two totals differ, a line each."""
    wanted = asdict(expected)
    return [
        f"total {name}: the jobs found {value}, the plain loop {wanted[name]}"
        for name, value in asdict(found).items()
        if value != wanted[name]
    ]
